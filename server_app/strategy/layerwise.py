"""Server optimizers whose step depends on the size of a tensor, or of an exit block.

An exit block is the tensors of one owner exit. Tensors of unlike trainers change by unlike amounts;
here each one moves by a share of its own norm, or by as much as its own clients agree on.
"""

from collections.abc import Mapping
from logging import INFO
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.common import NDArray, log

from server_app.strategy import clipping
from server_app.strategy.fedavg import PartialFedAvg
from server_app.strategy.optimizers import PartialFedAdam, PartialFedAvgM
from server_app.strategy.partial_mean import PartialMean


def trust(values: NDArray, step: NDArray) -> float:
    """Return |values| / |step| (L2 norms), by which a layer-wise optimizer scales its step.

    It is 1 where either is zero: a bias starts at zero.
    """
    size, change = float(np.linalg.norm(values)), float(np.linalg.norm(step))
    return size / change if size > 0 and change > 0 else 1.0


class PartialLars(PartialFedAvgM):
    """LARS (You et al., arXiv 1708.03888, Algorithm 1): momentum on a change of a fixed length.

    With the averaged change d: v <- beta v + eta |theta| / |d| d, theta <- theta + v.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    eta : float (default: 0.01)
        The length of a change as a share of the tensor's norm.
    **momentum : Any
        PartialFedAvgM's arguments; of these ``server_momentum`` is beta, and lr is 1.
    """

    def __init__(self, owner_exits: Mapping[str, int], eta: float = 1e-2, **momentum: Any) -> None:
        super().__init__(owner_exits, **{**momentum, "server_learning_rate": 1.0})
        self.eta = eta

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        change = mean - current
        scaled = self.eta * trust(current, change) * change
        return super().step(name, current, current + scaled)


class PartialLamb(PartialFedAdam):
    """LAMB (You et al., arXiv 1904.00962, Algorithm 2) on the averaged change, without decay.

    With m and v as in Adam, both bias-corrected: r = m / (sqrt(v) + tau), and
    theta <- theta + eta |theta| / |r| r. With it on the server, arXiv 2310.00098 trains speech
    recognisers of many layers.
    """

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        direction = (super().step(name, current, mean) - current) / self.eta
        return np.asarray(current + self.eta * trust(current, direction) * direction)


class PartialFedExP(PartialFedAvg):
    """FedExP (Jhunjhunwala et al., arXiv 2301.09604, equation 5), for each exit block e by itself.

    With d_k the change of the block at client k, p_k its share of the weight and d their mean::

        eta_e = max(1, sum_k p_k |d_k|^2 / (2 (|d|^2 + epsilon)))

    and the block moves by eta_e d. Where clients disagree, their mean is short and the step longer.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    epsilon : float (default: 0.001)
        As above; larger is more careful. Squared norm.
    **partial : Any
        PartialFedAvg's arguments.
    """

    def __init__(
        self, owner_exits: Mapping[str, int], epsilon: float = 1e-3, **partial: Any
    ) -> None:
        super().__init__(owner_exits, **partial)
        why = "each client's norm is used"
        if self.noise:
            noise = partial["dp_noise_multiplier"]
            raise ValueError(f"dp-noise-multiplier: found {noise}, wanted 0: {why}")
        if self.secure:
            raise ValueError(f"secure-aggregation: found true, wanted false: {why}")
        self.epsilon = epsilon
        self.rates: dict[int, float] = {}  # eta_e of this round

    def running_mean(self, current: Mapping[str, NDArray]) -> PartialMean:
        """Return the empty sums, which sum the squared changes as well."""
        return MeanAndSquares(current, self.coverage, self.shrinkage, self._expected)

    def _new_arrays(self, mean: PartialMean, current: Mapping[str, NDArray]) -> ArrayRecord:
        assert isinstance(mean, MeanAndSquares)
        of_clients: dict[int, float] = {}
        of_mean: dict[int, float] = {}
        for name, squares in mean.squares.items():
            exit = self.owner_exits[name]
            change = np.linalg.norm(mean.mean(name, current[name]) - current[name])
            of_clients[exit] = of_clients.get(exit, 0.0) + squares / mean.weights[name]
            of_mean[exit] = of_mean.get(exit, 0.0) + float(change) ** 2
        self.rates = {
            exit: max(1.0, of_clients[exit] / (2 * (squares + self.epsilon)))
            for exit, squares in of_mean.items()
        }
        rates = ", ".join(f"{exit}: {rate:.2f}" for exit, rate in sorted(self.rates.items()))
        log(INFO, "FedExP: step of each exit block: %s", rates)
        return super()._new_arrays(mean, current)

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        return np.asarray(current + self.rates[self.owner_exits[name]] * (mean - current))


class MeanAndSquares(PartialMean):
    """A partial mean that also sums w_k |theta_j^k - theta_j|^2 of each floating tensor.

    Parameters
    ----------
    current : Mapping[str, NDArray]
        The model theta that the clients started from.
    *mean : Any
        PartialMean's arguments.
    """

    def __init__(self, current: Mapping[str, NDArray], *mean: Any) -> None:
        super().__init__(*mean)
        self.squares: dict[str, float] = {}
        self._current = current

    def add(
        self,
        arrays: Mapping[str, NDArray],
        weight: float,
        factors: Mapping[str, float] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """Add one client's tensors, as ``PartialMean.add``."""
        super().add(arrays, weight, factors, scales)
        changes, scales = clipping.as_changes(arrays, scales, self._current)
        for name, norm in clipping.change_norms(changes, scales).items():
            added = weight * ((factors or {}).get(name, 1.0) * norm) ** 2
            self.squares[name] = self.squares.get(name, 0.0) + added
