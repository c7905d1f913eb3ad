"""The aggregation core: each tensor's mean over the clients that hold it.

Ali, Brutti, Falavigna, "Federating Dynamic Models using Early-Exit Architectures for ASR on
Heterogeneous Clients" (arXiv 2405.17376): a layer is averaged over the clients that have it.
"""

from collections.abc import Mapping

import numpy as np
import torch
from flwr.common import NDArray

from server_app.strategy.arrays import tensor


class PartialMean:
    """Running sums, one per tensor; a reply is folded in and can be dropped.

    For a tensor j with trainers k and their weights w_k (design, "A round", step 5)::

        trainers:  theta_j <- sum_k w_k theta_j^k / sum_k w_k                          (1)
        cohort:    theta_j <- theta_j + sum_k w_k (theta_j^k - theta_j) / sum_all w    (2)

    In (2) the sum below runs over all accepted clients, trainers of j or not. Without trainers
    theta_j stays as it is in both.
    """

    def __init__(self, coverage: str) -> None:
        if coverage not in ("trainers", "cohort"):
            raise ValueError(f"coverage: found {coverage!r}, wanted trainers or cohort")
        self.coverage = coverage
        self.sums: dict[str, NDArray] = {}
        self.weights: dict[str, float] = {}  # of the tensor's trainers
        self.trainers: dict[str, int] = {}  # how many they are
        self.total = 0.0  # weight of all clients
        self.clients = 0
        # theta_j's own weight in its sum, where a client gave only a part of its way from theta_j.
        self._kept: dict[str, float] = {}

    def add(
        self,
        arrays: Mapping[str, NDArray],
        weight: float,
        factor: float = 1.0,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """Fold in one client's tensors.

        Parameters
        ----------
        arrays : Mapping[str, NDArray]
            The client's values theta_j^k; with ``scales`` its changes theta_j^k - theta_j instead,
            divided by the tensor's scale.
        weight : float
            w_k, above 0.
        factor : float (default: 1)
            How much of the client's change counts, 0..1: theta_j + factor (theta_j^k - theta_j).
        scales : Mapping[str, float], optional
            The scale of each tensor that came as a change.
        """
        scales = scales or {}
        for name, array in arrays.items():
            if name not in self.sums:
                # Sums of floats in float32, whatever travelled; of whole numbers exactly.
                real = np.issubdtype(array.dtype, np.floating) or name in scales
                self.sums[name] = np.zeros(array.shape, np.float32 if real else np.float64)
                self.weights[name] = self._kept[name] = 0.0
                self.trainers[name] = 0
            _add_scaled(self.sums[name], array, weight * factor * scales.get(name, 1.0))
            self.weights[name] += weight
            self.trainers[name] += 1
            self._kept[name] += weight if name in scales else weight * (1 - factor)
        self.total += weight
        self.clients += 1

    def mean(self, name: str, current: NDArray) -> NDArray:
        """Return the new value of a tensor whose value was ``current``, in ``current``'s dtype."""
        if name not in self.sums:
            return current
        kept, total = self._kept[name], self.weights[name]  # (1)
        if self.coverage == "cohort":
            kept, total = kept + self.total - total, self.total  # (2)
        mean = self.sums[name] / total
        if kept:
            mean += (kept / total) * current
        if np.issubdtype(current.dtype, np.integer):
            mean = np.rint(mean)
        return np.asarray(mean).astype(current.dtype, copy=False)


def _add_scaled(sums: NDArray, array: NDArray, scale: float) -> None:
    """Add ``scale * array`` to ``sums`` in place: one pass, no copy, on torch's threads."""
    torch.from_numpy(sums).add_(tensor(array), alpha=scale)
