"""Batches of utterances of similar length, limited by their seconds, and what the model gets."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torchaudio
from torch import Tensor

from efmodel.config import IGNORED
from efmodel.speech.utterances import Utterance


class HasSeconds(Protocol):
    """Anything with a duration."""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""


Item = TypeVar("Item", bound=HasSeconds)


def batches(
    items: Sequence[Item], batch_seconds: float, seed: int, batch_utterances: int | None = None
) -> list[list[Item]]:
    """Return the items in batches of at most ``batch_seconds``, padding included.

    Items are sorted by roughly their length and cut into batches, and the batches are shuffled.
    An item longer than ``batch_seconds`` is a batch by itself.

    Parameters
    ----------
    items : Sequence
        Utterances, or anything else with ``seconds``.
    batch_seconds : float
        Number of items times the longest item's seconds, at most.
    seed : int
        Determines the batches and their order; another seed gives other batches.
    batch_utterances : int, optional
        Largest number of items in a batch. The cap gives corpora of short utterances enough
        optimizer steps.
    """
    generator = random.Random(seed)
    # Lengths vary by 5 % at random: batches differ between epochs and have hardly more padding.
    ordered = sorted(items, key=lambda item: item.seconds * generator.uniform(0.95, 1.05))
    result: list[list[Item]] = []
    longest = 0.0
    for item in ordered:
        longest = max(longest, item.seconds)
        size = len(result[-1]) + 1 if result else 0
        fits = batch_utterances is None or size <= batch_utterances
        if result and fits and longest * size <= batch_seconds:
            result[-1].append(item)
        else:
            result.append([item])
            longest = item.seconds
    generator.shuffle(result)
    return result


def at_speed(utterance: Utterance, speed: float) -> Utterance:
    """Return the utterance played ``speed`` times as fast, which also raises its pitch.

    Ko et al., "Audio augmentation for speech recognition" (Interspeech 2015), use 0.9, 1 and 1.1.
    """
    if speed == 1.0:
        return utterance
    rate = round(100 * speed)  # whole hundredths keep the resampling filter small
    samples = torchaudio.functional.resample(utterance.samples, rate, 100)
    return utterance.with_samples(samples)


Inputs = Callable[[Iterable[Utterance]], dict[str, Any]]  # makes a model's arguments from a batch


def collate(utterances: Iterable[Utterance]) -> dict[str, Tensor]:
    """Return the model's arguments for a batch: padded samples, their mask, and labels.

    ``input_values`` and ``attention_mask`` are ``[batch, samples]``, ``labels`` is
    ``[batch, labels]`` padded with ``IGNORED``.
    """
    batch = list(utterances)
    pad = torch.nn.utils.rnn.pad_sequence
    samples = [utterance.samples for utterance in batch]
    labels = [torch.tensor(utterance.labels) for utterance in batch]
    return {
        "input_values": pad(samples, batch_first=True),
        "attention_mask": pad([torch.ones(len(x), dtype=torch.long) for x in samples], True),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }
