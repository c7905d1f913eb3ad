"""The training loss: CTC at each exit, and the exits' losses as one scalar."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from efmodel.config import IGNORED
from efmodel.exit_weights import exit_weights
from efmodel.model.frames import frame_mask


def ctc(logits: Tensor, lengths: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Return the CTC loss of one exit: the mean over utterances of nats per label.

    It is a mean over utterances, so that clients' losses can be averaged with their numbers of
    examples as weights.

    Parameters
    ----------
    logits : Tensor
        ``[batch, frames, vocab]``.
    lengths : Tensor
        ``[batch]``, each utterance's own frames, never the padded length.
    labels : Tensor
        ``[batch, labels]``, padded with ``IGNORED``.
    blank : int
        Index of the CTC blank.
    """
    log_probs = functional.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (B,T,V)->(T,B,V)
    mask = labels != IGNORED
    return functional.ctc_loss(
        log_probs,
        labels.masked_select(mask),
        lengths,
        mask.sum(-1),
        blank=blank,
        reduction="mean",
        zero_infinity=True,  # a text too long for its audio gets a loss of 0, not infinity
    )


def exits_loss(
    losses: Tensor,
    logits: Sequence[Tensor],
    lengths: Tensor,
    kind: str,
    progress: float = 1.0,
    distill: float = 0.0,
) -> Tensor:
    """Return the scalar to minimise: ``combine`` plus ``distill`` times ``self_distillation``.

    Parameters
    ----------
    losses : Tensor
        ``[E]``, the CTC loss of each exit, shallow to deep.
    logits : Sequence of Tensor
        E tensors ``[batch, frames, vocab]``.
    lengths : Tensor
        ``[batch]``, each utterance's own frames.
    kind : str
        A name in :mod:`efmodel.exit_weights`.
    progress : float
        The share of the run that is over, 0 to 1.
    distill : float
        Weight of the distillation; 0 for none.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    loss = combine(losses, kind, progress)
    if distill:
        loss = loss + distill * self_distillation(logits, lengths)
    return loss


def combine(losses: Tensor, kind: str, progress: float = 1.0) -> Tensor:
    """Return the sum of the exits' losses ``[E]``, weighted by ``exit_weights``, as a scalar."""
    weights = torch.tensor(exit_weights(kind, len(losses), progress), device=losses.device)
    return (losses * weights).sum()


def self_distillation(logits: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """Return the mean KL divergence of shallower exits from the deepest, in nats per frame.

    With p_e the posterior of exit e over the vocabulary and T_b utterance b's own frames::

        1/(E-1) sum_{e<E}  mean over b  1/T_b sum_{t<=T_b} KL(p_E[b,t] || p_e[b,t])

    The deepest exit is the teacher and gets no gradient (Zhang et al., "Be Your Own Teacher", ICCV
    2019; in DepthFL, Kim et al., ICLR 2023, all exits teach one another). 0 for a model with one
    exit.

    Parameters
    ----------
    logits : Sequence of Tensor
        E tensors ``[batch, frames, vocab]``, shallow to deep.
    lengths : Tensor
        ``[batch]``, each utterance's own frames.
    """
    *shallower, deepest = logits
    if not shallower:
        return deepest.new_zeros(())
    teacher = functional.log_softmax(deepest.detach(), dim=-1)
    mask = frame_mask(lengths, deepest.shape[1])
    distances = []
    for student in shallower:
        log_probs = functional.log_softmax(student, dim=-1)
        per_frame = (teacher.exp() * (teacher - log_probs)).sum(-1)  # [batch, frames]
        distances.append(((per_frame * mask).sum(1) / lengths.clamp(min=1)).mean())
    return torch.stack(distances).mean()
