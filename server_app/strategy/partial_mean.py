"""The aggregation core: each tensor's mean over the clients that hold it.

Ali, Brutti, Falavigna, "Federating Dynamic Models using Early-Exit Architectures for ASR on
Heterogeneous Clients" (arXiv 2405.17376): a layer is averaged over the clients that have it.
"""

from collections.abc import Mapping

import numpy as np
from flwr.common import NDArray


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
        self.weights: dict[str, float] = {}
        self.total = 0.0

    def add(self, arrays: Mapping[str, NDArray], weight: float) -> None:
        """Fold in one client's tensors with its weight, above 0."""
        for name, array in arrays.items():
            # Sums of floats in float32, whatever travelled; of whole numbers in float64, exactly.
            kind = np.float32 if np.issubdtype(array.dtype, np.floating) else np.float64
            term = np.multiply(array, weight, dtype=kind)
            if name in self.sums:
                self.sums[name] += term
                self.weights[name] += weight
            else:
                self.sums[name] = np.asarray(term)
                self.weights[name] = weight
        self.total += weight

    def mean(self, name: str, current: NDArray) -> NDArray:
        """Return the new value of a tensor whose value was ``current``, in ``current``'s dtype."""
        if name not in self.sums:
            return current
        if self.coverage == "trainers":
            mean = self.sums[name] / self.weights[name]  # (1)
        else:
            share = self.weights[name] / self.total
            mean = self.sums[name] / self.total + (1 - share) * current  # (2)
        if np.issubdtype(current.dtype, np.integer):
            mean = np.rint(mean)
        return np.asarray(mean).astype(current.dtype)
