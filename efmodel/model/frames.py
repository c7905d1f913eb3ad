"""The mask that separates an utterance's frames from padding."""

import torch
from torch import Tensor


def frame_mask(lengths: Tensor, size: int) -> Tensor:
    """Return ``[batch, size]``, True for an utterance's frames and False for padding.

    ``lengths`` is ``[batch]``, the number of frames (or samples) of each utterance.
    """
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
