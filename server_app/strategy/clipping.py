"""Clipping: a bound on the L2 norm of one client's change to the model."""

import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from flwr.common import NDArray
from safetensors.numpy import load, save

from server_app.strategy.arrays import tensor
from server_app.strategy.running_sums import NotFiniteError


def parse(bound: str) -> float:
    """Return ``max-update-norm`` as a number: 0 for "off", nan for "auto".

    Raises
    ------
    ValueError
        If it is neither "off", "auto" nor a number above 0.
    """
    named = {"off": 0.0, "auto": math.nan}
    if bound in named:
        return named[bound]
    try:
        number = float(bound)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise ValueError(f"max-update-norm: found {bound!r}, wanted off, auto or a number above 0")
    return number


def update_norm(
    arrays: Mapping[str, NDArray],
    current: Mapping[str, NDArray],
    scales: Mapping[str, float] | None,
) -> tuple[float, int]:
    """Return the L2 norm of a client's change, and the number of values in it.

    Tensors of whole numbers do not count.

    Raises
    ------
    NotFiniteError
        Naming the tensor that holds nan or inf.
    """
    total, size = 0.0, 0
    for name, array in arrays.items():
        if not np.issubdtype(current[name].dtype, np.floating):
            continue
        change = tensor(array).float()
        if scales is None:
            change = change - tensor(current[name])
        squares = float(torch.linalg.vector_norm(change, dtype=torch.float64)) ** 2
        squares *= scales[name] ** 2 if scales else 1.0
        if not math.isfinite(squares):
            raise NotFiniteError(f"{name}: found nan or inf")
        total += squares
        size += array.size
    return math.sqrt(total), size


def shrinking(norm: float, bound: float) -> float:
    """Return the factor, at most 1, by which a change of that norm is scaled to the bound."""
    return min(1.0, bound / norm) if norm > 0 else 1.0


def noise(multiplier: float, bound: float, weighting: str) -> float:
    """Return the standard deviation of the noise on a sum of changes; 0 for none.

    Raises
    ------
    ValueError
        If the bound is not fixed or weights are unequal: the largest change that one client can
        make is unknown then.
    """
    if not multiplier:
        return 0.0
    if not (bound > 0 and weighting == "uniform"):
        raise ValueError(
            "dp-noise-multiplier wants weighting = uniform and a number as max-update-norm: "
            "the noise must fit the largest change that one client can make"
        )
    return multiplier * bound


def noisy(values: NDArray, deviation: float) -> NDArray:
    """Return the values with Gaussian noise of that standard deviation, in their own dtype."""
    if not deviation:
        return values
    noise = np.random.default_rng().normal(0.0, deviation, values.shape)  # not seeded, on purpose
    return np.asarray(values + noise).astype(values.dtype)


class Spool:
    """Replies kept on disk until the cohort's median norm is known.

    Norms are divided by the square root of the number of values: a deep client has more of them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # deleted when closed, or when the process ends
        self._entries: list[tuple[int, float, float, dict[str, float] | None]] = []

    def put(
        self,
        arrays: dict[str, NDArray],
        weight: float,
        scales: dict[str, float] | None,
        norm: float,
        size: int,
    ) -> None:
        """Write one reply to disk."""
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        self._file.write(data)
        self._entries.append((len(data), weight, norm / math.sqrt(max(1, size)), scales))

    def replies(
        self,
    ) -> Iterator[tuple[dict[str, NDArray], float, float, dict[str, float] | None]]:
        """Yield each reply's tensors, weight, factor (see ``shrinking``) and scales."""
        if not self._entries:
            return
        median = statistics.median(norm for _, _, norm, _ in self._entries)
        self._file.seek(0)
        for length, weight, norm, scales in self._entries:
            yield load(self._file.read(length)), weight, shrinking(norm, median), scales
        self._file.close()
