"""Batches by seconds of audio: like lengths together, in an order that the seed decides."""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar


class HasSeconds(Protocol):
    """Anything with a length in seconds."""

    @property
    def seconds(self) -> float:
        """Its length in seconds."""


Item = TypeVar("Item", bound=HasSeconds)


def batches(
    items: Sequence[Item], batch_seconds: float, seed: int, batch_utterances: int | None = None
) -> list[list[Item]]:
    """Return the items in batches of at most ``batch_seconds``, padding counted.

    And of at most ``batch_utterances``, if given: an optimizer that learns from single words
    wants steps as much as one that learns from sentences.

    Items are sorted by length, those of nearly equal length shuffled among themselves, cut into
    batches, and the batches shuffled. An item longer than ``batch_seconds`` is a batch by itself.
    """
    chance = random.Random(seed)
    # A tenth of jitter on each length: the mix of a batch differs between epochs, padding hardly.
    ordered = sorted(items, key=lambda item: item.seconds * chance.uniform(0.95, 1.05))
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
    chance.shuffle(result)
    return result
