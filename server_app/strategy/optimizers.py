"""Server optimizers, which use the averaged change of a tensor as its gradient.

With every client at full depth each one equals Flower's class of the same name. A tensor without
trainers keeps its value *and* its moments: a gradient of zero would still let old momentum move it,
and would shrink its second moment.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.common import NDArray

from server_app.strategy.fedavg import PartialFedAvg


class PartialFedAvgM(PartialFedAvg):
    """Momentum (Hsu et al., arXiv 1909.06335): v <- beta v + (theta - mean), theta <- theta - lr v.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    server_learning_rate : float (default: 1.0)
        lr.
    server_momentum : float (default: 0.0)
        beta.
    **partial : Any
        PartialFedAvg's arguments.
    """

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        server_learning_rate: float = 1.0,
        server_momentum: float = 0.0,
        **partial: Any,
    ) -> None:
        super().__init__(owner_exits, **partial)
        self.server_learning_rate = server_learning_rate
        self.server_momentum = server_momentum

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        velocity = self.server_momentum * self.moment("velocity", name, current) + (current - mean)
        self.moments["velocity"][name] = velocity
        return np.asarray(current - self.server_learning_rate * velocity)


class PartialFedOpt(PartialFedAvg):
    """Base of Adam, Yogi and Adagrad (Reddi et al., arXiv 2003.00295, Algorithm 2).

    With the averaged change d: m <- beta_1 m + (1 - beta_1) d, v by each optimizer's rule, and
    theta <- theta + eta m / (sqrt(v) + tau).

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    eta, tau : float
        As above.
    **partial : Any
        PartialFedAvg's arguments.
    """

    beta_1 = 0.0  # no momentum

    def __init__(
        self, owner_exits: Mapping[str, int], eta: float, tau: float, **partial: Any
    ) -> None:
        super().__init__(owner_exits, **partial)
        self.eta, self.tau = eta, tau

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        change = mean - current
        m = self.beta_1 * self.moment("m", name, current) + (1 - self.beta_1) * change
        v = self._second_moment(self.moment("v", name, current), change)
        self.moments["m"][name], self.moments["v"][name] = np.asarray(m), np.asarray(v)
        return np.asarray(current + self._eta(name) * m / (np.sqrt(v) + self.tau))

    def _eta(self, name: str) -> float:
        return self.eta

    def _second_moment(self, v: NDArray, change: NDArray) -> NDArray:
        raise NotImplementedError


class _WithMomentum(PartialFedOpt):
    """Base of Adam and Yogi: m decays with beta_1, v with beta_2."""

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        eta: float,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        **partial: Any,
    ) -> None:
        super().__init__(owner_exits, eta, tau, **partial)
        self.beta_1, self.beta_2 = beta_1, beta_2


class PartialFedAdam(_WithMomentum):
    """v <- beta_2 v + (1 - beta_2) d^2, with Adam's bias correction of eta."""

    def __init__(self, owner_exits: Mapping[str, int], eta: float = 1e-1, **partial: Any) -> None:
        super().__init__(owner_exits, eta, **partial)

    def _second_moment(self, v: NDArray, change: NDArray) -> NDArray:
        return np.asarray(self.beta_2 * v + (1 - self.beta_2) * change**2)

    def _eta(self, name: str) -> float:
        # Steps of this tensor, not rounds: bias depends on how often m and v were updated. Flower
        # counts one more.
        steps = self.moment("steps", name, np.zeros(1)) + 1
        self.moments["steps"][name] = steps
        power = float(steps[0]) + 1
        return float(self.eta * np.sqrt(1 - self.beta_2**power) / (1 - self.beta_1**power))


class PartialFedYogi(_WithMomentum):
    """v <- v - (1 - beta_2) d^2 sign(v - d^2)."""

    def __init__(self, owner_exits: Mapping[str, int], eta: float = 1e-2, **partial: Any) -> None:
        super().__init__(owner_exits, eta, **partial)

    def _second_moment(self, v: NDArray, change: NDArray) -> NDArray:
        squared = change**2
        return np.asarray(v - (1.0 - self.beta_2) * squared * np.sign(v - squared))


class PartialFedAdagrad(PartialFedOpt):
    """v <- v + d^2, and no momentum."""

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        eta: float = 1e-1,
        tau: float = 1e-3,
        **partial: Any,
    ) -> None:
        super().__init__(owner_exits, eta, tau, **partial)

    def _second_moment(self, v: NDArray, change: NDArray) -> NDArray:
        return np.asarray(v + change**2)
