"""GentleDepth: partial FedAvg that moves deep layers less, since few clients train them.

ef-asr simulate --set strategy=gentle-depth --set strategy-options="decay=0.5"
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.common import NDArray

from server_app.strategy import PartialFedAvg


class GentleDepth(PartialFedAvg):
    """Take ``decay ** (exit - 1)`` of a tensor's averaged change; ``exit`` is its owner exit.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        The shallowest exit that needs each tensor; the front end has 0, and moves in full.
    decay : float (default: 0.5)
        Above 0, up to 1. With 1 this is PartialFedAvg. Comes from ``strategy-options``.
    **partial : Any
        PartialFedAvg's own arguments; those that are run config keys come from there.

    Raises
    ------
    ValueError
        If ``decay`` is out of range.
    """

    def __init__(self, owner_exits: Mapping[str, int], decay: float = 0.5, **partial: Any) -> None:
        super().__init__(owner_exits, **partial)
        if not 0 < decay <= 1:
            raise ValueError(f"decay: found {decay}, wanted a number above 0, up to 1")
        self.decay = decay

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return a tensor's new value, given its old one and its trainers' mean."""
        share = self.decay ** max(0, self.owner_exits[name] - 1)
        return np.asarray(current + np.float32(share) * (mean - current))
