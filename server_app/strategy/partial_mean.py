"""The aggregation core: each tensor's mean over the clients that hold it.

Ali, Brutti, Falavigna, "Federating Dynamic Models using Early-Exit Architectures for ASR on
Heterogeneous Clients" (arXiv 2405.17376): a layer is averaged over the clients that have it.
"""

from collections.abc import Mapping

import numpy as np
from flwr.common import NDArray

from server_app.strategy.running_sums import RunningSums


class PartialMean:
    """Running sums, one per tensor; a reply is added and can then be dropped.

    For a tensor j with trainers k and their weights w_k (design, "A round", step 5)::

        trainers:  theta_j <- sum_k w_k theta_j^k / sum_k w_k                          (1)
        cohort:    theta_j <- theta_j + sum_k w_k (theta_j^k - theta_j) / sum_all w    (2)

    In (2) the sum in the denominator runs over all accepted clients, trainers of j or not. Without
    trainers theta_j stays as it is in both. Shrinkage kappa multiplies the change by
    n / (n + kappa), where n is the number of clients that the mean is taken over (3): as if kappa
    more clients had changed nothing. docs/aggregation.md derives it.

    Parameters
    ----------
    coverage : str
        "trainers" for (1), "cohort" for (2).
    shrinkage : float (default: 0)
        kappa in (3).
    expected : Mapping[str, float], optional
        For clients of weight 1: the number of clients by which each tensor's sum is divided in
        place of those that it is taken over; theta_j keeps the rest, as in (2). Of a cohort drawn
        at random it is the number of trainers on average, which gives away nobody who was drawn.
    """

    def __init__(
        self, coverage: str, shrinkage: float = 0.0, expected: Mapping[str, float] | None = None
    ) -> None:
        if coverage not in ("trainers", "cohort"):
            raise ValueError(f"coverage: found {coverage!r}, wanted trainers or cohort")
        self.coverage = coverage
        self.shrinkage = shrinkage
        self.expected = expected or {}
        self.weights: dict[str, float] = {}  # total weight of each tensor's trainers
        self.trainers: dict[str, int] = {}  # number of each tensor's trainers
        self.total = 0.0  # weight of all accepted clients
        self.clients = 0
        self._sums = RunningSums()
        # Weight of theta_j itself in its sum: replies with changes, and clipped ones, build on it.
        self._kept: dict[str, float] = {}

    def add(
        self,
        arrays: Mapping[str, NDArray],
        weight: float,
        factors: Mapping[str, float] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """Add one client's tensors to the sums; none of them if one holds nan or inf.

        Parameters
        ----------
        arrays : Mapping[str, NDArray]
            The client's values theta_j^k; with ``scales`` its changes theta_j^k - theta_j instead,
            divided by the tensor's scale.
        weight : float
            w_k, above 0.
        factors : Mapping[str, float], optional
            How much of each tensor's change counts, 0..1: theta_j + factor (theta_j^k - theta_j);
            all of it for tensors that are not named.
        scales : Mapping[str, float], optional
            The scale of each tensor that came as a change.

        Raises
        ------
        NotFiniteError
            Naming the tensor with nan or inf.
        """
        scales, factors = scales or {}, factors or {}
        alphas = {n: weight * factors.get(n, 1.0) * scales.get(n, 1.0) for n in arrays}
        self._sums.add(arrays, alphas, weight)  # the sums over k in (1) and (2)
        for name in arrays:
            self.weights[name] = self.weights.get(name, 0.0) + weight
            self.trainers[name] = self.trainers.get(name, 0) + 1
            kept = weight if name in scales else weight * (1 - factors.get(name, 1.0))
            self._kept[name] = self._kept.get(name, 0.0) + kept
        self.total += weight
        self.clients += 1

    def add_mean(self, changes: Mapping[str, NDArray], weight: float, trainers: int) -> None:
        """Add the mean change of several clients, with the sum of their weights, as one.

        ``total`` and ``clients`` are the caller's to set.
        """
        self._sums.add(changes, dict.fromkeys(changes, weight), weight)
        for name in changes:
            self.weights[name] = self.weights.get(name, 0.0) + weight
            self.trainers[name] = self.trainers.get(name, 0) + trainers
            self._kept[name] = self._kept.get(name, 0.0) + weight

    def mean(self, name: str, current: NDArray) -> NDArray:
        """Return the new value of a tensor whose value was ``current``, in ``current``'s dtype."""
        if name not in self.weights:
            return current
        total = self._weight(name)
        kept = self._kept[name] + total - self.weights[name]  # the rest is 0 in (1)
        # kappa clients of mean weight, (3)
        unchanged = total * self.shrinkage / self._clients(name)
        kept, total = kept + unchanged, total + unchanged
        mean = self._sums.sum(name) / total
        if kept:
            mean += (kept / total) * current
        if np.issubdtype(current.dtype, np.integer):
            mean = np.rint(mean)
        return np.asarray(mean).astype(current.dtype, copy=False)

    def divisor(self, name: str) -> float:
        """Return what the sum of equally weighted changes of a tensor is divided by."""
        return self._clients(name) + self.shrinkage

    def _clients(self, name: str) -> float:
        """Return the number of clients that a tensor's mean is taken over."""
        if name in self.expected:
            return self.expected[name]
        return self.trainers[name] if self.coverage == "trainers" else self.clients

    def _weight(self, name: str) -> float:
        """Return the weight of these clients."""
        if name in self.expected:
            return self.expected[name]
        return self.weights[name] if self.coverage == "trainers" else self.total
