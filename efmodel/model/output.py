"""What a forward pass returns."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

from efmodel.model.frames import frame_mask


class ExitLogits(list[Tensor]):
    """E tensors ``[batch, frames, vocab]``, shallow to deep, which decode like the deepest one.

    The pipeline of transformers decodes ``logits.argmax(dim=-1)``. For another exit give it the
    model cut there.
    """

    def __init__(
        self, logits: Iterable[Tensor], lengths: Tensor | None = None, blank: int = 0
    ) -> None:
        super().__init__(logits)
        self._lengths, self._blank = lengths, blank

    def argmax(self, dim: int = -1) -> Tensor:
        """Return the deepest exit's labels ``[batch, frames]``, with blanks for padding."""
        labels = self[-1].argmax(dim)
        if self._lengths is None:
            return labels
        return labels.masked_fill(~frame_mask(self._lengths, labels.shape[1]), self._blank)


@dataclass
class EarlyExitOutput(ModelOutput):  # type: ignore[misc]
    """Output of the forward pass. E is the number of exits; lists run from shallow to deep.

    Attributes
    ----------
    logits : list of Tensor
        E tensors ``[batch, frames, vocab]``, float32.
    lengths : Tensor
        ``[batch]``, the number of frames of each utterance; the rest of ``logits`` is padding.
    losses : Tensor, optional
        ``[E]``, the CTC loss per exit; given labels only.
    loss : Tensor, optional
        The scalar that ``config.exit_loss`` combines ``losses`` to.
    hidden_states : list of Tensor, optional
        E tensors ``[batch, frames, hidden]``: the input of each head, before its norm.
    attentions : tuple of Tensor, optional
        The attention weights of each encoder layer, ``[batch, heads, frames, frames]``.
    """

    loss: Tensor | None = None
    logits: list[Tensor] | None = None
    lengths: Tensor | None = None
    losses: Tensor | None = None
    hidden_states: list[Tensor] | None = None
    attentions: tuple[Tensor, ...] | None = None
