"""From labels to words, with the time and the confidence of each. Only numpy is needed here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.policy import ExitOutput
from efmodel.speech.normaliser import in_units, without_false_spaces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Word(NamedTuple):
    """A word of a transcript.

    Attributes
    ----------
    text : str
        As the model spells it.
    start, end : float
        Seconds from the start of the recording.
    confidence : float
        Between 0 and 1: the probability of its least certain label.
    """

    text: str
    start: float
    end: float
    confidence: float


class Path(NamedTuple):
    """The most probable label of each frame, ``[frames]``, and its log-probability."""

    labels: NDArray[np.int64]
    log_probs: NDArray[np.float32]

    @classmethod
    def of(cls, output: ExitOutput) -> "Path":
        """Return an exit's greedy path."""
        return cls(output.path, output.log_probs.max(-1))

    @classmethod
    def joined(cls, paths: Sequence["Path"]) -> "Path":
        """Return paths one after another."""
        if not paths:
            return cls(np.empty(0, np.int64), np.empty(0, np.float32))
        return cls(*map(np.concatenate, zip(*paths, strict=True)))

    def slice(self, first: int, end: int | None) -> "Path":
        """Return some of the frames."""
        return Path(self.labels[first:end], self.log_probs[first:end])


class Label(NamedTuple):
    """A label on a path: its frames, the end excluded, and its highest log-probability."""

    label: int
    first: int
    end: int
    log_prob: float


@dataclass(frozen=True)
class Tokens:
    """What the labels stand for.

    Attributes
    ----------
    tokens : tuple of str
        By label.
    blank : int
        The label of CTC's blank.
    space : str
        The token, or the part of a token, that stands between words.
    silent : frozenset of int
        Labels that are not written: special tokens.
    """

    tokens: tuple[str, ...]
    blank: int
    space: str
    silent: frozenset[int]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "Tokens":
        """Return the tokens of a tokenizer."""
        from efmodel.speech.vocabulary import boundary

        space = boundary(tokenizer)
        tokens = tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        special = set(tokenizer.all_special_tokens) - {space}
        silent = frozenset(label for label, token in enumerate(tokens) if token in special)
        return cls(tokens, tokenizer.pad_token_id, space, silent)

    def written(self, label: int) -> str:
        """Return what a label adds to a text; words are separated by spaces."""
        if label == self.blank or label in self.silent:
            return ""
        return self.tokens[label].replace(self.space, " ")


def labels_of(path: Path, blank: int) -> list[Label]:
    """Return the labels of a path with their frames: repetitions are one label, blanks are none."""
    starts = np.flatnonzero(np.diff(path.labels, prepend=-1))
    ends = [*starts[1:], len(path.labels)][: len(starts)]  # an empty path has none
    return [
        Label(int(path.labels[first]), int(first), int(end), float(path.log_probs[first:end].max()))
        for first, end in zip(starts, ends, strict=True)
        if path.labels[first] != blank
    ]


def words(
    labels: Iterable[Label], tokens: Tokens, frame_seconds: float, seconds: float
) -> list[Word]:
    """Return the words that labels spell.

    Parameters
    ----------
    labels : Iterable[Label]
        In the order of their frames.
    tokens : Tokens
        What the labels stand for.
    frame_seconds : float
        Seconds from one frame to the next.
    seconds : float
        Duration of the recording: the last frame may reach beyond it.
    """
    found: list[Word] = []
    text = ""
    spelt: list[Label] = []

    def finish() -> None:
        nonlocal text, spelt
        if text:
            start = spelt[0].first * frame_seconds
            end = min(seconds, spelt[-1].end * frame_seconds)
            sure = float(np.exp(min(each.log_prob for each in spelt)))
            found.append(Word(text, start, end, sure))
        text, spelt = "", []

    for label in labels:
        for position, part in enumerate(tokens.written(label.label).split(" ")):
            if position or (text and len(in_units(text + part).split()) > 1):
                finish()  # after a space, or between characters of a script without spaces
            if part:
                text += part
                spelt.append(label)
    finish()
    return found


def text_of(found: Sequence[Word]) -> str:
    """Return the words in a row."""
    return without_false_spaces(" ".join(word.text for word in found))
