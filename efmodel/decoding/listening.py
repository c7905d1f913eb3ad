"""Speech as it comes: a stream is cut at pauses, and what grows is recognised again and again.

The rule is one of energy. A block of 30 ms is speech if it is well above the noise, which is the
level of the quietest blocks of the last seconds. Streams are iterators of samples: a microphone, or
a recording in pieces.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from efmodel.speech.resampling import SAMPLE_RATE, Samples, resample

if TYPE_CHECKING:
    from efmodel.decoding.recogniser import Recogniser, Result

BLOCK = 0.03  # seconds
NOISE_SECONDS = 6.0  # in which the quietest blocks are looked for
NOISE_SHARE = 0.1  # of those blocks
ABOVE_NOISE = 9.0  # dB by which speech is above the noise
QUIETEST = -60.0  # dB of full scale; nothing below it is speech
FIRST_NOISE = -50.0  # dB; what is assumed to come before the stream
STARTS_AFTER = 3  # blocks of speech in a row, so that a click does not count
ENDS_AFTER = 0.7  # seconds without speech
BEFORE = 0.3  # seconds that are kept before speech, and after it
LONGEST = 20.0  # seconds; speech without pauses is cut where it is quietest
CUT_WITHIN = 5.0  # seconds before that in which it may be cut
PARTIAL = 0.5  # seconds of new audio, at least, before speech that goes on is recognised again


class Piece(NamedTuple):
    """Speech between two pauses, or the part of it that was heard so far.

    Attributes
    ----------
    samples : ndarray
        ``[samples]``.
    start : float
        Seconds from the start of the stream.
    complete : bool
        Whether it has ended.
    """

    samples: Samples
    start: float
    complete: bool


class Heard(NamedTuple):
    """What was said in a piece."""

    result: "Result"
    start: float
    complete: bool


@dataclass
class Pauses:
    """Cuts a stream at its pauses.

    Parameters
    ----------
    rate : int
        Sample rate in Hz.
    """

    rate: int = SAMPLE_RATE
    _held: list[Samples] = field(default_factory=list)  # blocks since the piece's start
    _levels: list[float] = field(default_factory=list)  # of these, in dB
    _recent: deque[float] = field(init=False)  # levels of the last seconds, noise before them
    _dropped: int = 0  # blocks before those that are held
    _in_speech: bool = False
    _loud: int = 0  # blocks of speech in a row
    _quiet: int = 0  # blocks without speech in a row

    def __post_init__(self) -> None:
        count = blocks(NOISE_SECONDS)
        self._recent = deque([FIRST_NOISE] * count, maxlen=count)

    def add(self, block: Samples) -> Piece | None:
        """Take the next block; return the piece that it ends, or lets grow, if there is one."""
        level = decibels(block)
        threshold = self._threshold()
        self._recent.append(level)
        self._held.append(block)
        self._levels.append(level)
        self._loud = self._loud + 1 if level > threshold else 0
        self._quiet = 0 if level > threshold else self._quiet + 1
        if not self._in_speech:
            self._in_speech = self._loud >= STARTS_AFTER
            if not self._in_speech:
                self._drop(len(self._held) - blocks(BEFORE) - self._loud)
                return None
        if self._quiet >= blocks(ENDS_AFTER):
            return self._end(len(self._held) - self._quiet + blocks(BEFORE), in_speech=False)
        if len(self._held) >= blocks(LONGEST):
            late = self._levels[-blocks(CUT_WITHIN) :]
            return self._end(len(self._held) - len(late) + int(np.argmin(late)) + 1, in_speech=True)
        return self._piece(len(self._held), complete=False)

    def finish(self) -> Piece | None:
        """Return the piece that the end of the stream cuts off, if there is one."""
        return self._end(len(self._held), in_speech=False) if self._in_speech else None

    def _threshold(self) -> float:
        noise = float(np.quantile(self._recent, NOISE_SHARE))
        return max(QUIETEST, noise + ABOVE_NOISE)

    def _end(self, count: int, in_speech: bool) -> Piece:
        piece = self._piece(count, complete=True)
        self._drop(count)
        self._in_speech = in_speech
        return piece

    def _piece(self, count: int, complete: bool) -> Piece:
        start = self._dropped * block_size(self.rate) / self.rate
        return Piece(np.concatenate(self._held[:count]), start, complete)

    def _drop(self, count: int) -> None:
        count = max(0, count)
        del self._held[:count], self._levels[:count]
        self._dropped += count


def pieces(chunks: Iterable[Samples], rate: int = SAMPLE_RATE) -> Iterator[Piece]:
    """Yield the speech of a stream: each piece as it grows, block by block, and when it ended.

    Parameters
    ----------
    chunks : Iterable of ndarray
        Samples ``[samples]``, in pieces of any length.
    rate : int
        Sample rate in Hz.
    """
    pauses, size = Pauses(rate), block_size(rate)
    held = np.empty(0, np.float32)
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        for first in range(0, len(held) - size + 1, size):
            if piece := pauses.add(held[first : first + size]):
                yield piece
        held = held[len(held) // size * size :]
    if piece := pauses.finish():
        yield piece


def listen(
    recogniser: "Recogniser",
    chunks: Iterable[Samples],
    rate: int = SAMPLE_RATE,
    partial: bool = True,
) -> Iterator[Heard]:
    """Yield what is said in a stream, piece by piece; a noise may give a piece without a word.

    Parameters
    ----------
    recogniser : Recogniser
        Recognises each piece.
    chunks : Iterable of ndarray
        Samples ``[samples]``, in pieces of any length.
    rate : int
        Sample rate in Hz.
    partial : bool
        Whether to yield pieces while they grow too. That takes at most half of the time: a machine
        that is slow does it less often.
    """
    known, wait = 0.0, PARTIAL
    for piece in pieces(chunks, rate):
        seconds = len(piece.samples) / rate
        if not piece.complete and not (partial and seconds - known >= wait):
            continue
        began = perf_counter()
        result = recogniser.transcribe(resample(piece.samples, rate))
        wait = max(PARTIAL, 2 * (perf_counter() - began))
        known = 0.0 if piece.complete else seconds
        yield Heard(result, piece.start, piece.complete)


def decibels(block: Samples) -> float:
    """Return the level of samples in dB of full scale, at least -100."""
    return float(10 * np.log10(max(1e-10, float(np.square(block).mean()))))


def blocks(seconds: float) -> int:
    """Return how many blocks are about so long."""
    return round(seconds / BLOCK)


def block_size(rate: int) -> int:
    """Return the samples of a block."""
    return round(BLOCK * rate)
