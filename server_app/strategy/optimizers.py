"""Server optimizers: they take the averaged change of a tensor as its gradient.

Each gives what Flower's own class of that name gives while every client trains everything. Where
some do not, a tensor without trainers keeps its value *and* its moments: no change would still be a
gradient of zero, which lets old momentum move a layer that nobody trained and forgets its scale.
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
    """What Adam, Yogi and Adagrad share (Reddi et al., arXiv 2003.00295, Algorithm 2).

    With the averaged change d: m <- beta_1 m + (1 - beta_1) d, v by the optimizer's own rule, and
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

    beta_1 = 0.0  # no momentum, unless an optimizer has some

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
    """What Adam and Yogi share: both moments are remembered, m by beta_1 and v by beta_2."""

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
        # A tensor's own steps, not the round: what m and v forgot depends on how often they moved.
        # Flower counts one more, and so do we.
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
