"""From logits and labels to one CTC loss per exit, and from those to one number."""

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100  # label value behind an utterance's own text


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


def exit_weights(kind: str, num_exits: int) -> list[float]:
    """Return the weight of each exit's loss, shallow to deep.

    "mean" 1/E each; "sum" 1 each (the paper, arXiv 2405.17376 eq. 1); "last" only the deepest at
    hand; "weighted" proportional to the exit's number and summing to one, so that deep exits count
    more.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind == "mean":
        return [1 / num_exits] * num_exits
    if kind == "sum":
        return [1.0] * num_exits
    if kind == "last":
        return [0.0] * (num_exits - 1) + [1.0]
    if kind == "weighted":
        total = num_exits * (num_exits + 1) / 2
        return [e / total for e in range(1, num_exits + 1)]
    raise ValueError(f"exit-loss: found {kind!r}, wanted mean, sum, last or weighted")


def combine(losses: Tensor, kind: str) -> Tensor:
    """Return the weighted sum of the exits' losses ``[E]`` as a scalar."""
    weights = torch.tensor(exit_weights(kind, len(losses)), device=losses.device)
    return (losses * weights).sum()
