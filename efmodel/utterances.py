"""From recordings to what a model takes: samples and labels, with all that was left out named."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import torch
import torchaudio
from datasets import Dataset
from flwr.common import log
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel import audio, text
from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.loss import IGNORED


@dataclass(frozen=True)
class Utterance:
    """One recording, decoded: samples ``[samples]`` at 16 kHz, its text and labels."""

    name: str
    samples: Tensor
    text: str
    labels: list[int]

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLE_RATE


@dataclass
class Skipped:
    """What was left out and why, and which characters were dropped from texts."""

    recordings: list[tuple[str, str]] = field(default_factory=list)
    characters: Counter[str] = field(default_factory=Counter)

    def log(self, where: str) -> None:
        """Write one line per recording left out, and one for all characters dropped."""
        for name, reason in self.recordings:
            log(WARNING, "%s: skipped %s: %s", where, name, reason)
        if self.characters:
            found = ", ".join(f"{c!r} x{n}" for c, n in self.characters.most_common())
            log(INFO, "%s: characters outside the vocabulary, dropped: %s", where, found)


def prepare(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig, to_train: bool
) -> tuple[list[Utterance], Skipped]:
    """Decode the recordings of a data set.

    Left out and named: a file that is no audio, an empty text, and, to train, audio too short for
    its text (CTC needs a frame per label and a blank between equal neighbours). To test, short
    audio stays in: what the model cannot say counts against it.
    """
    utterances: list[Utterance] = []
    skipped = Skipped()
    for row in dataset:
        source = row["audio"]["bytes"] or row["audio"]["path"]
        name = Path(row["audio"]["path"] or "unnamed").name
        words, dropped = text.normalise(row["text"], tokenizer)
        skipped.characters += dropped
        if not words:
            skipped.recordings.append((name, f"found text {row['text']!r}, wanted words"))
            continue
        try:
            samples = audio.load(source, name)
        except audio.AudioError as error:
            skipped.recordings.append((name, str(error)))
            continue
        labels = text.encode(words, tokenizer)
        frames, wanted = config.num_frames(len(samples)), text.min_frames(labels)
        if frames < (wanted if to_train else 1):
            reason = f"found {len(samples) / SAMPLE_RATE:.2f} s of audio = {frames} frames"
            skipped.recordings.append((name, f"{reason}, wanted {wanted} for {words!r}"))
            continue
        utterances.append(Utterance(name, samples, words, labels))
    return utterances, skipped


def at_speed(utterance: Utterance, speed: float) -> Utterance:
    """Return the utterance played ``speed`` times as fast: shorter, and higher in pitch.

    Ko et al., "Audio augmentation for speech recognition" (Interspeech 2015), with 0.9, 1, 1.1.
    """
    if speed == 1.0:
        return utterance
    rate = round(100 * speed)  # in hundredths, so that resampling has a small common divisor
    samples = torchaudio.functional.resample(utterance.samples, rate, 100)
    return replace(utterance, samples=samples)


Inputs = Callable[[Iterable[Utterance]], dict[str, Any]]  # from utterances to a model's arguments


def collate(utterances: Iterable[Utterance]) -> dict[str, Tensor]:
    """Return one batch for the model: ``input_values``, ``attention_mask`` and ``labels``.

    ``input_values`` and ``attention_mask`` are ``[batch, samples]``, ``labels`` is
    ``[batch, labels]`` padded with -100.
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
