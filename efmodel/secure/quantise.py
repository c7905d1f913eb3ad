"""Changes of tensors as whole numbers whose sum over all clients fits 32 bits."""

import math
from dataclasses import dataclass

import numpy as np
from flwr.common import NDArray

HALF = 2**31 - 1  # the largest sum that int32 holds
# Largest change of one value in a round, where no norm bounds it. Values of a trained network, and
# so their changes, are far below.
VALUE_RANGE = 8.0


@dataclass(frozen=True)
class Quantiser:
    """Turns weighted changes into whole numbers, and their sum into a mean.

    Client k sends W_k = round(L w_k / max_weight) and round(W_k d / value_range) for each change d.
    The mean over clients is value_range times the sum of the latter over the sum of the W_k. It
    differs from the exact one by at most ``step(sum of W_k)``.

    Parameters
    ----------
    value_range : float
        Largest |d|; larger changes count as this.
    max_weight : float
        Largest w_k; larger weights count as this.
    clients : int
        Clients whose sum must fit.
    """

    value_range: float
    max_weight: float
    clients: int

    @property
    def levels(self) -> int:
        """L, the whole number of the largest weight."""
        return HALF // self.clients

    def weight(self, weight: float) -> int:
        """Return W_k, from 1 to L."""
        return max(1, round(self.levels * min(weight, self.max_weight) / self.max_weight))

    def quantise(self, change: NDArray, weight: int) -> NDArray:
        """Return the whole numbers of a client's changes as uint32, given W_k."""
        bounded = np.clip(change.astype(np.float64), -self.value_range, self.value_range)
        whole: NDArray = np.rint(bounded * (weight / self.value_range)).astype(np.int32)
        return whole.view(np.uint32)

    def rounding(self, size: int, weight: int) -> float:
        """Return the largest L2 norm of what rounding adds to ``size`` changes, given W_k."""
        return 0.5 * math.sqrt(size) * self.value_range / weight

    def mean(self, total: NDArray, weights: int) -> NDArray:
        """Return the mean change as float32, given the sums of ``quantise`` and of W_k."""
        mean: NDArray = total.view(np.int32) * (self.value_range / weights)
        return mean.astype(np.float32)

    def step(self, weights: int) -> float:
        """Return the largest error of a mean change, given the sum of W_k.

        Rounding a change costs half a step of each client; rounding a weight, up to twice that.
        """
        return 1.5 * self.clients * self.value_range / weights

    def real(self, weights: int) -> float:
        """Return the sum of the weights w_k, given that of W_k."""
        return weights * self.max_weight / self.levels
