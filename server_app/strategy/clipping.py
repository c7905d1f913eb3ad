"""Clipping: a bound on the L2 norm of one client's change to the model."""

import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.common import NDArray
from safetensors.numpy import load, save

from server_app.strategy.arrays import tensor
from server_app.strategy.running_sums import NotFiniteError

Scales = Mapping[str, float]  # of each tensor that comes as a change


@dataclass(frozen=True)
class Bound:
    """Bound on the L2 norm of one client's change.

    Parameters
    ----------
    norm : float
        The bound C: 0 for none, nan for the cohort's median.
    parts : int (default: 0)
        0 clips the change as a whole. Otherwise each tensor is clipped to C / sqrt(parts) by
        itself (per-layer clipping, arXiv 1710.06963 and 2310.00098). With the number of the whole
        model's tensors, a client that holds only some of them stays within C, too.
    """

    norm: float
    parts: int = 0

    @classmethod
    def parsed(cls, norm: str, parts: int = 0) -> "Bound":
        """Return the bound that ``max-update-norm`` names: "off", "auto" or a number above 0.

        Raises
        ------
        ValueError
            If it is none of these, or no number although each tensor is to be clipped.
        """
        named = {"off": 0.0, "auto": math.nan}
        try:
            number = named[norm] if norm in named else float(norm)
        except ValueError:
            number = -1.0
        if norm not in named and not 0 < number < math.inf:
            wanted = "wanted off, auto or a number above 0"
            raise ValueError(f"max-update-norm: found {norm!r}, {wanted}")
        if parts and norm in named:
            wanted = "wanted a number: clip-by is tensor"
            raise ValueError(f"max-update-norm: found {norm!r}, {wanted}")
        return cls(number, parts)

    def factors(self, norms: Mapping[str, float]) -> dict[str, float]:
        """Return the factor, at most 1, that shortens each tensor's change to the bound."""
        if self.parts:
            limit = self.norm / math.sqrt(self.parts)
            return {name: shrinking(norm, limit) for name, norm in norms.items()}
        return dict.fromkeys(norms, shrinking(math.hypot(*norms.values()), self.norm))


def as_changes(
    arrays: Mapping[str, NDArray], scales: Scales | None, current: Mapping[str, NDArray]
) -> tuple[dict[str, NDArray], Scales]:
    """Return the changes of an update's floating tensors in place of their values, with scales.

    Sums of clipped changes stay within the bound times the clients; in sums of values, rounding
    would add to the change that one client can make.
    """
    if scales is not None:
        return dict(arrays), scales
    changes, scales = dict(arrays), {}
    for name, array in arrays.items():
        if np.issubdtype(current[name].dtype, np.floating):
            wide = np.result_type(array.dtype, np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # refused when its norm is computed
                changes[name] = np.subtract(array, current[name], dtype=wide)
            scales[name] = 1.0
    return changes, scales


def change_norms(changes: Mapping[str, NDArray], scales: Scales) -> dict[str, float]:
    """Return the L2 norm of each change that has a scale.

    Raises
    ------
    NotFiniteError
        Naming the tensor that holds nan or inf.
    """
    norms = {}
    for name, scale in scales.items():
        values = tensor(changes[name]).float()
        norms[name] = scale * float(torch.linalg.vector_norm(values, dtype=torch.float64))
        if not math.isfinite(norms[name]):
            raise NotFiniteError(f"{name}: found nan or inf")
    return norms


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
    why = "dp-noise-multiplier must fit the largest change that one client can make to a sum"
    if weighting != "uniform":
        raise ValueError(f"weighting: found {weighting!r}, wanted uniform: {why}")
    if not bound > 0:
        found = "off" if bound == 0 else "auto"
        raise ValueError(f"max-update-norm: found {found!r}, wanted a number: {why}")
    return multiplier * bound


def noisy(values: NDArray, deviation: float) -> NDArray:
    """Return the values with Gaussian noise of that standard deviation, in their own dtype."""
    if not deviation:
        return values
    noise = np.random.default_rng().normal(0.0, deviation, values.shape)  # not seeded, on purpose
    return np.asarray(values + noise).astype(values.dtype)


class Spool:
    """Changes kept on disk until the cohort's median norm is known.

    Norms are divided by the square root of the number of values: a deep client has more of them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # deleted when closed, or when the process ends
        self._entries: list[tuple[int, float, Scales, float]] = []

    def put(
        self, changes: Mapping[str, NDArray], weight: float, scales: Scales, norm: float
    ) -> None:
        """Write the changes of one client, and remember their L2 norm."""
        size = sum(changes[name].size for name in scales)
        data = save({name: np.ascontiguousarray(array) for name, array in changes.items()})
        self._file.write(data)
        self._entries.append((len(data), weight, scales, norm / math.sqrt(max(1, size))))

    def replies(self) -> Iterator[tuple[dict[str, NDArray], float, dict[str, float], Scales]]:
        """Yield each client's changes, weight, factors (see ``shrinking``) and scales."""
        if not self._entries:
            return
        median = statistics.median(norm for _, _, _, norm in self._entries)
        self._file.seek(0)
        for length, weight, scales, norm in self._entries:
            factors = dict.fromkeys(scales, shrinking(norm, median))
            yield load(self._file.read(length)), weight, factors, scales
        self._file.close()
