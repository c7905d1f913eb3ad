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
    states = np.full(2 * len(labels) + 1, blank)  # of a path: blanks around each label
    states[1::2] = labels
    path = _best_path(log_probs, states)
    aligned_labels = []
    for number, label in enumerate(labels):
        first, end = np.searchsorted(path, [2 * number + 1, 2 * number + 2])
        best = float(log_probs[first:end, label].max())
        aligned_labels.append(Label(label, int(first), int(end), best))
    return aligned_labels


def _best_path(log_probs: NDArray[np.float32], states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the state of each frame on the most probable path through the states in their order.

    Parameters
    ----------
    log_probs : ndarray
        ``[frames, vocab]``.
    states : ndarray
        ``[states]``, the label of each state: blank, label, blank, label ... blank. A path may
        leave out the blank between two labels that differ, and the first and the last one.
    """
    frames, size = len(log_probs), len(states)
    skipped = np.zeros(size, bool)  # whether a path may leave out the state before this one
    skipped[3::2] = states[3::2] != states[1:-2:2]
    steps = np.zeros((frames, size), np.int8)  # states that the path advances by into a frame
    ways = np.full((3, size), -np.inf)
    best = np.full(size, -np.inf)
    best[:2] = log_probs[0, states[:2]]
    for frame in range(1, frames):
        ways[0], ways[1, 1:] = best, best[:-1]
        ways[2, 2:] = np.where(skipped[2:], best[:-2], -np.inf)
        steps[frame] = ways.argmax(0)
        best = ways.max(0) + log_probs[frame, states]
    path = np.empty(frames, np.int64)
    path[-1] = size - 1 if best[-1] > best[-2] else size - 2
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = path[frame] - steps[frame, path[frame]]
    return path
