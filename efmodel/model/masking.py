"""Random masks while training: which of them a model draws, and wav2vec2's own two kinds.

SpecAugment's spans on mel bands (arXiv 1904.08779) are in :mod:`efmodel.model.mel`. Here are those
behind the front end: spans of frames become one trained vector, spans of channels zero (wav2vec
2.0, arXiv 2006.11477, section 5.2 and appendix B).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from efmodel.config import EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.settings import Settings, mask_sizes


def choose_masks(config: EarlyExitConfig, settings: Settings) -> None:
    """Change the masks in a built model's ``config`` as the run config's ``masks`` says.

    Before a model is built, ``mask_time_prob`` decides whether it has a vector for masked frames,
    which must not differ between clients.
    """
    config.update(mask_sizes(settings.masks))


def mask_features(
    hidden: Tensor, lengths: Tensor, config: EarlyExitConfig, masked: nn.Parameter | None
) -> Tensor:
    """Return ``hidden`` ``[batch, frames, hidden]`` with spans of frames and channels masked.

    Parameters
    ----------
    hidden : Tensor
        ``[batch, frames, hidden]``, behind the feature projection.
    lengths : Tensor
        ``[batch]``, each utterance's own frames: how many spans it gets depends on nothing else.
    config : EarlyExitConfig
        Shares (``mask_time_prob``, ``mask_feature_prob``) and lengths of spans.
    masked : nn.Parameter, optional
        ``[hidden]``, what a masked frame becomes; zero without.
    """
    batch, frames, size = hidden.shape
    if config.mask_time_prob:
        mask = spans(
            lengths, frames, config.mask_time_prob, config.mask_time_length,
            config.mask_time_min_masks,
        )  # fmt: skip
        instead = hidden.new_zeros(size) if masked is None else masked.to(hidden.dtype)
        hidden = torch.where(mask[:, :, None], instead, hidden)
    if config.mask_feature_prob:
        sizes = torch.full((batch,), size, device=hidden.device)
        mask = spans(
            sizes, size, config.mask_feature_prob, config.mask_feature_length,
            config.mask_feature_min_masks,
        )  # fmt: skip
        hidden = hidden.masked_fill(mask[:, None, :], 0.0)
    return hidden


def spans(lengths: Tensor, size: int, share: float, span: int, least: int) -> Tensor:
    """Return random spans ``[batch, size]``, True where masked, inside each one's own length.

    ``share * length / span`` spans of ``span`` positions each, rounded up or down at random, at
    least ``least`` where so many fit; they may overlap.
    """
    chance = torch.rand(lengths.shape, device=lengths.device)
    wanted = (share * lengths / span + chance).long().clamp(min=least)
    possible = (lengths - span + 1).clamp(min=0)  # positions where a span may start
    order = torch.rand(len(lengths), size, device=lengths.device)
    rank = order.masked_fill(~frame_mask(possible, size), 1.0).argsort(1).argsort(1)
    begun = (rank < torch.minimum(wanted, possible)[:, None]).long().cumsum(1)
    ended = functional.pad(begun, (span, 0))[:, :size]
    return begun > ended
