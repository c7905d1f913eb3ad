"""Batches of utterances of similar length, limited by their seconds of audio."""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar


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
