"""Random masks in training.

Two of wav2vec 2.0's masks act after the front end: spans of frames are replaced by a trained
vector, spans of channels by zero (arXiv 2006.11477, section 5.2 and appendix B). SpecAugment's
masks on mel bands and frames (arXiv 1904.08779) are in :mod:`efmodel.model.mel`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from efmodel.config import EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.settings import Settings, mask_sizes


def choose_masks(config: EarlyExitConfig, settings: Settings) -> None:
    """Change the masks in a built model's ``config`` as the run config's ``masks`` says.

    Call it after the model is built: while it is built, ``mask_time_prob`` decides whether the
    model has a vector for masked frames, and that must be the same on every client.
    """
    config.update(mask_sizes(settings.masks))


def mask_features(
    hidden: Tensor, lengths: Tensor, config: EarlyExitConfig, masked: nn.Parameter | None
) -> Tensor:
    """Return ``hidden`` ``[batch, frames, hidden]`` with spans of frames and channels masked.

    Parameters
    ----------
    hidden : Tensor
        Projected features, ``[batch, frames, hidden]``.
    lengths : Tensor
        ``[batch]``, the number of frames of each utterance; it sets the number of its spans.
    config : EarlyExitConfig
        Masked shares (``mask_time_prob``, ``mask_feature_prob``) and lengths of the spans.
    masked : nn.Parameter, optional
        ``[hidden]``, replaces a masked frame; zero if the model has none.
    """
    batch, frames, size = hidden.shape
    if config.mask_time_prob:
        mask = spans(
            lengths, frames, config.mask_time_prob, config.mask_time_length,
            config.mask_time_min_masks,
        )  # fmt: skip
        replacement = hidden.new_zeros(size) if masked is None else masked.to(hidden.dtype)
        hidden = torch.where(mask[:, :, None], replacement, hidden)
    if config.mask_feature_prob:
        sizes = torch.full((batch,), size, device=hidden.device)
        mask = spans(
            sizes, size, config.mask_feature_prob, config.mask_feature_length,
            config.mask_feature_min_masks,
        )  # fmt: skip
        hidden = hidden.masked_fill(mask[:, None, :], 0.0)
    return hidden


def spans(lengths: Tensor, size: int, share: float, span: int, least: int) -> Tensor:
    """Return a random mask ``[batch, size]`` of spans, True where masked.

    Parameters
    ----------
    lengths : Tensor
        ``[batch]``; every span lies within its row's length.
    size : int
        Length of a row, padding included.
    share : float
        Expected share of a row that is masked, if no spans overlapped.
    span : int
        Length of a span. A row gets ``share * length / span`` spans, rounded up or down at random;
        spans may overlap.
    least : int
        Smallest number of spans of a row that is long enough for them.
    """
    rounding = torch.rand(lengths.shape, device=lengths.device)
    wanted = (share * lengths / span + rounding).long().clamp(min=least)
    starts = (lengths - span + 1).clamp(min=0)  # number of positions where a span may start
    order = torch.rand(len(lengths), size, device=lengths.device)
    rank = order.masked_fill(~frame_mask(starts, size), 1.0).argsort(1).argsort(1)
    begun = (rank < torch.minimum(wanted, starts)[:, None]).long().cumsum(1)
    ended = functional.pad(begun, (span, 0))[:, :size]
    return begun > ended
