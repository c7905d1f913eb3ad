"""From logits and labels to one CTC loss per exit, and from those to one number."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from efmodel.config import IGNORED
from efmodel.exit_weights import exit_weights
from efmodel.model.frames import frame_mask


def ctc(logits: Tensor, lengths: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Return the CTC loss of one exit: the mean over utterances of nats per label.

    A mean over utterances makes losses of different clients add up when weighted by their
    number of examples.

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
        zero_infinity=True,  # a text too long for its audio teaches nothing, and breaks nothing
    )


def combine(losses: Tensor, kind: str, progress: float = 1.0) -> Tensor:
    """Return the weighted sum of the exits' losses ``[E]`` as a scalar.

    ``kind`` names one of :mod:`efmodel.exit_weights`; ``progress`` is the share of the run that is
    over.
    """
    weights = torch.tensor(exit_weights(kind, len(losses), progress), device=losses.device)
    return (losses * weights).sum()


def self_distillation(logits: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """Return how far the shallower exits are from the deepest: nats per frame, as a scalar.

    With p_e the posterior of exit e over the vocabulary and T_b utterance b's own frames::

        1/(E-1) sum_{e<E}  mean over b  1/T_b sum_{t<=T_b} KL(p_E[b,t] || p_e[b,t])

    The deepest exit teaches and gets no gradient (Zhang et al., "Be Your Own Teacher", ICCV 2019;
    in DepthFL, Kim et al., ICLR 2023, all exits teach one another). 0 for a model with one exit.

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
