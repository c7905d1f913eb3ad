"""Calm: PartialFedAvg that takes less of a change which turns back on the changes before it.

An example of a strategy of one's own. What it takes:

- A subclass of PartialFedAvg keeps everything around the mean: who is asked, what is sent, the
  checks, the streaming, the bytes. Any other strategy of Flower's kind works too, but sends whole
  models and so needs ``capacities=full``.
- Parameters of ``__init__`` that are keys of the run config (``server_momentum``, say) are filled
  from there; its own come from ``strategy-options="patience=0.5"``. Everything else goes on to
  PartialFedAvg through ``**partial``.
- ``step`` makes a tensor's new value of its old one and its trainers' mean. What it must remember
  from round to round goes into ``moments``: then checkpoints keep it and a resumed run goes on
  exactly.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.common import NDArray

from server_app.strategy import PartialFedAvg


class Calm(PartialFedAvg):
    """Takes only a part of a change that does not point where the last changes pointed.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    patience : float (default: 0.5)
        How long a direction is remembered, from 0 to below 1.
    **partial : Any
        PartialFedAvg's arguments.

    Raises
    ------
    ValueError
        If patience is no share.
    """

    def __init__(
        self, owner_exits: Mapping[str, int], patience: float = 0.5, **partial: Any
    ) -> None:
        super().__init__(owner_exits, **partial)
        if not 0 <= patience < 1:
            raise ValueError(f"patience: found {patience}, wanted a number from 0, below 1")
        self.patience = patience

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return the tensor's new value."""
        change = mean - current
        direction = self.patience * self.moment("direction", name, current) + change
        self.moments["direction"][name] = direction
        lengths = float(np.linalg.norm(change) * np.linalg.norm(direction))
        agreement = float(np.vdot(change, direction)) / lengths if lengths else 1.0
        return np.asarray(current + np.float32((1 + agreement) / 2) * change)
