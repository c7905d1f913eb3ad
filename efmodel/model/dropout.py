"""Dropout with fast random numbers on a CPU.

Drawing the masks of ``nn.Dropout`` took a fifth of a conformer's training step.
"""

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16  # a 16-bit random number decides about each value


class Dropout(nn.Dropout):
    """``nn.Dropout`` that takes four decisions from each 64-bit random number.

    On a CPU, torch draws one number per value, on one thread. Here the dropped share is ``p``
    rounded to 1/65536. On other devices this is ``nn.Dropout``.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Return ``hidden``; in training a share ``p`` is zero and the rest is scaled up."""
        if not self.training or not 0 < self.p < 1 or hidden.device.type != "cpu":
            return super().forward(hidden)
        size = hidden.numel()
        draws = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        # The 16-bit numbers are uniform between -_LEVELS / 2 and _LEVELS / 2 - 1.
        kept = draws.view(torch.int16)[:size] >= round(self.p * _LEVELS) - _LEVELS // 2
        return hidden * kept.view(hidden.shape).to(hidden.dtype).mul_(1 / (1 - self.p))


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every ``nn.Dropout`` in ``model`` by ``Dropout``, also in transformers' layers."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
