"""Frames and their lengths, which travel together."""

import torch
from torch import Tensor


def frame_mask(lengths: Tensor, size: int) -> Tensor:
    """Return ``[batch, size]``, True where a frame belongs to its utterance."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
