"""Sums of the replies' tensors, checked and added in one pass over memory.

A model does not fit the processor's cache, so time is spent on reading and writing memory: a check
of all tensors and then an addition would read each reply twice. Here a reply is processed in pieces
that fit the cache: each is checked, and added while it is still there.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from flwr.common import NDArray

from server_app.strategy.arrays import tensor

PIECE = 1 << 18  # values; 1 MB of float32
# Largest |scale * value| per unit of weight that is added before the whole reply is checked.
SAFE = 16.0
OVERFLOW = float(np.finfo(np.float32).max)


class NotFiniteError(ValueError):
    """A tensor holds nan, inf, or values that overflow float32 once they are weighted."""


class Term(NamedTuple):
    """One piece of one reply: ``sums += scale * values``."""

    name: str
    sums: torch.Tensor  # [at most PIECE]
    values: torch.Tensor  # [at most PIECE]
    scale: float

    def add(self) -> None:
        """Add the piece to its sum."""
        self.sums.add_(self.values, alpha=self.scale)

    def subtract(self) -> None:
        """Undo ``add``, but for rounding."""
        self.sums.sub_(self.values, alpha=self.scale)

    def largest(self) -> float:
        """Return the largest |scale * value|; see ``largest``."""
        return largest(self.name, self.values, self.scale)


def largest(name: str, values: torch.Tensor, scale: float) -> float:
    """Return the largest |scale * value| of a tensor, 0 of an empty one.

    Raises
    ------
    NotFiniteError
        Naming the tensor, if a value is nan or inf, or overflows float32.
    """
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values)
    value = max(-low.item(), high.item())  # both are nan if any value is
    if not value * scale < OVERFLOW:
        problem = f"{value:g}, too large to sum" if math.isfinite(value) else "nan or inf"
        raise NotFiniteError(f"{name}: found {problem}")
    return value * scale


class RunningSums:
    """One sum per tensor, in float32; in float64 for tensors of whole numbers."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray] = {}

    def add(
        self, arrays: Mapping[str, NDArray], scales: Mapping[str, float], weight: float
    ) -> None:
        """Add ``scales[name] * arrays[name]`` for every tensor, or for none.

        Where a bad value turns up after some pieces were added, they are subtracted again. That
        leaves each sum within 2^-23 (|sum| + SAFE * weight) of what it was: pieces with larger
        values are added only once the whole reply is checked.

        Raises
        ------
        NotFiniteError
            If a tensor holds nan, inf, or values too large to sum. Nothing of the reply is added.
        """
        for name, array in arrays.items():
            if name not in self._sums:
                self._sums[name] = np.zeros(
                    array.shape, np.float64 if _counts(array) else np.float32
                )
        terms = [term for name in arrays for term in self._terms(name, arrays[name], scales[name])]
        added = 0
        try:
            while added < len(terms) and terms[added].largest() <= SAFE * weight:
                terms[added].add()
                added += 1
            for term in terms[added + 1 :]:
                term.largest()
        except NotFiniteError:
            for term in terms[:added]:
                term.subtract()
            raise
        for term in terms[added:]:
            term.add()

    def sum(self, name: str) -> NDArray:
        """Return a tensor's sum."""
        return self._sums[name]

    def _terms(self, name: str, array: NDArray, scale: float) -> list[Term]:
        sums, values = torch.from_numpy(self._sums[name]).view(-1), tensor(array).reshape(-1)
        pairs = zip(torch.split(sums, PIECE), torch.split(values, PIECE), strict=True)
        return [Term(name, *pair, scale) for pair in pairs if pair[0].numel()]


def _counts(array: NDArray) -> bool:
    """Return whether a tensor holds whole numbers to be summed exactly; int8 is a coded change."""
    return not np.issubdtype(array.dtype, np.floating) and array.dtype != np.int8
