"""Two ways from frames to labels: the most probable label of each frame, or a beam search."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.policy import ExitOutput
from efmodel.decoding.words import Label, Path, labels_of

Piece = TypeVar("Piece")


class Decoder(Protocol, Generic[Piece]):
    """Turns the frames of a recording into labels. Frames come in pieces, window by window."""

    def keep(self, output: ExitOutput, first: int, end: int | None) -> Piece:
        """Return what is needed of some of a window's frames; the end is excluded."""

    def labels(self, pieces: Sequence[Piece]) -> list[Label]:
        """Return the labels of a recording whose frames are the pieces in a row."""


class Greedy:
    """The most probable label of each frame: only the path is kept, whatever the vocabulary."""

    def __init__(self, blank: int) -> None:
        self.blank = blank

    def keep(self, output: ExitOutput, first: int, end: int | None) -> Path:
        """Return the path."""
        return Path.of(output).slice(first, end)

    def labels(self, pieces: Sequence[Path]) -> list[Label]:
        """Return the labels of the path."""
        return labels_of(Path.joined(pieces), self.blank)


class Beam:
    """The most probable text with a language model or hot words, aligned with the frames."""

    def __init__(self, search: BeamSearch, blank: int) -> None:
        self.search = search
        self.blank = blank

    def keep(self, output: ExitOutput, first: int, end: int | None) -> NDArray[np.float32]:
        """Return the log-probabilities ``[frames, vocab]``."""
        return output.log_probs[first:end]

    def labels(self, pieces: Sequence[NDArray[np.float32]]) -> list[Label]:
        """Return the labels of the best text."""
        if not pieces:
            return []
        log_probs = np.concatenate(pieces)
        return aligned(log_probs, self.search.search(log_probs).labels, self.blank)


def aligned(log_probs: NDArray[np.float32], labels: Sequence[int], blank: int) -> list[Label]:
    """Return labels with the frames where they are most probable, all of them in their order.

    Parameters
    ----------
    log_probs : ndarray
        ``[frames, vocab]``; at least as many frames as CTC needs for the labels.
    labels : Sequence of int
        Without blanks.
    blank : int
        The label of CTC's blank.
    """
    if not labels:
        return []
    import torch
    from torchaudio.functional import forced_align, merge_tokens

    emissions = torch.from_numpy(log_probs)[None]
    path, scores = forced_align(emissions, torch.tensor([labels], dtype=torch.int32), blank=blank)
    spans = merge_tokens(path[0], scores[0], blank=blank)
    best = scores[0].tolist()
    return [Label(s.token, s.start, s.end, max(best[s.start : s.end])) for s in spans]
