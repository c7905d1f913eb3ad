"""Utterances: labelled recordings, decoded on demand; the others are skipped and reported."""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.errors import MAX_NAMED
from efmodel.speech import audio, index, memory, text
from efmodel.speech.index import Index, Measurement
from efmodel.speech.recorded import (
    Audio,
    Fields,
    InMemory,
    Recorded,
    decode,
    key_of,
    name_of,
    source,
)

if TYPE_CHECKING:  # datasets takes seconds to import; a trial step works without
    from datasets import Dataset

SECONDS = (0.1, 30.0)  # shortest and longest recording that is used
SILENCE = 1e-4  # amplitude of a recording without speech: 3 steps of 16 bits
PROGRESS_SECONDS = 10.0  # between lines of the log while recordings are measured


@dataclass(frozen=True, slots=True)
class Utterance:
    """A labelled recording: normalised text, labels, and audio that is decoded on demand."""

    name: str
    audio: Audio
    text: str
    labels: list[int]

    @property
    def seconds(self) -> float:
        """Duration in seconds, known without decoding."""
        return self.audio.seconds

    @property
    def samples(self) -> Tensor:
        """``[samples]`` at 16 kHz; where they are not in memory, they are decoded now."""
        return self.audio.samples

    def with_samples(self, samples: Tensor) -> "Utterance":
        """Return the utterance with other samples ``[samples]`` at 16 kHz, in memory."""
        return replace(self, audio=InMemory(samples))

    def decoded(self) -> "Utterance":
        """Return the utterance with its samples in memory."""
        return self.with_samples(self.samples)


@dataclass
class Skipped:
    """Skipped recordings, and characters dropped from texts.

    Attributes
    ----------
    recordings : list of tuple of str
        Name and reason of each skipped recording.
    kinds : Counter
        Number of recordings by kind of reason.
    characters : Counter
        Number of occurrences of each dropped character or tag.
    headers : list of str
        For each recording whose header gives another length than it has: its name, and how much.
        It need not be skipped.
    """

    recordings: list[tuple[str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    headers: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str, reason: str) -> None:
        """Add a skipped recording with the kind of reason and the reason itself."""
        self.recordings.append((name, reason))
        self.kinds[kind] += 1

    def by_kind(self) -> str:
        """Return the number of skipped recordings by kind of reason, as text."""
        return ", ".join(f"{kind} x{n}" for kind, n in self.kinds.most_common())

    def dropped_characters(self) -> str:
        """Return how often each character was dropped, as text."""
        return ", ".join(f"{c!r} x{n}" for c, n in self.characters.most_common())

    def log(self, where: str) -> None:
        """Log the first skipped recordings and wrong headers, and what was dropped from texts.

        ``where`` starts each line: the data set's name or path.
        """
        if not (self.recordings or self.characters or self.headers):
            return
        from flwr.common import log  # takes a second to import, and is needed only here

        for name, reason in self.recordings[:MAX_NAMED]:
            log(WARNING, "%s: skipped %s: %s", where, name, reason)
        if len(self.recordings) > MAX_NAMED:
            log(WARNING, "%s: skipped %d in all: %s", where, len(self.recordings), self.by_kind())
        for remark in self.headers[:MAX_NAMED]:
            log(WARNING, "%s: %s", where, remark)
        if len(self.headers) > MAX_NAMED:
            log(WARNING, "%s: wrong headers x%d in all", where, len(self.headers))
        if self.characters:
            dropped = self.dropped_characters()
            log(INFO, "%s: dropped characters outside the vocabulary: %s", where, dropped)


@dataclass(frozen=True)
class Row:
    """A recording with words, before it is decoded."""

    name: str
    source: bytes | str
    text: str
    labels: list[int]


def check_text(
    row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, skipped: Skipped
) -> Row | None:
    """Return a recording with words, not decoded, or add it to ``skipped`` and return None."""
    name = name_of(row)
    words, dropped = text.normalise(row["text"] or "", tokenizer)
    skipped.characters += dropped
    if not words:
        skipped.add(name, "no words", f"found text {row['text']!r}, wanted words")
        return None
    return Row(name, source(row), words, text.encode(words, tokenizer))


def skip_unreadable(row: Row, error: audio.AudioError, skipped: Skipped) -> None:
    """Add a recording that cannot be decoded to ``skipped``."""
    kind = "no file" if isinstance(error, audio.NoFileError) else "no audio"
    skipped.add(row.name, kind, str(error).removeprefix(f"{row.name}: "))


def check_length(
    row: Row,
    duration: float,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float],
    skipped: Skipped,
) -> bool:
    """Return whether a recording of ``duration`` seconds can be used; if not, skip it.

    ``prepare`` explains the other parameters, and lists what is skipped.
    """
    shortest, longest = seconds
    if duration > longest:
        reason = f"found {duration:.1f} s of audio, wanted at most {longest:g}"
        skipped.add(row.name, "too long", reason)
        return False
    if to_train and duration < shortest:
        reason = f"found {duration:.3f} s of audio, wanted at least {shortest:g}"
        skipped.add(row.name, "too short", reason)
        return False
    frames = config.num_frames(round(duration * SAMPLE_RATE))
    wanted = text.min_frames(row.labels)
    if frames < (wanted if to_train else 1):
        found = f"{duration:.2f} s of audio = {frames} frames"
        reason = f"found {found}, wanted {wanted} for {row.text!r}"
        skipped.add(row.name, "too short for its text", reason)
        return False
    return True


def _silence(found: Measurement) -> str:
    """Return why a recording has no speech at all, or an empty string."""
    if found.cancelled:
        return "found channels that cancel each other out, wanted speech in their mean"
    if found.amplitude < SILENCE:  # a constant offset is no sound
        return f"found silence ({found.amplitude:.6f}), wanted speech"
    return ""


def measure(row: Fields, name: str, longest: float, known: Index) -> tuple[bytes, Measurement]:
    """Return what identifies a recording, and its measurement: from the index, or by decoding it.

    Raises
    ------
    AudioError
        As :func:`efmodel.speech.audio.load`. It is not kept: the reason may be this machine.
    """
    try:
        key = key_of(row)
    except (OSError, TypeError, ValueError):  # no file, or no path
        decode(row, name)  # fails, too, and its error says why
        raise
    found = known.get(key)
    if found is None or not found.suffices(longest):
        recording = decode(row, name, longest)
        found = Measurement.of(recording, longest)
        known.put(key, found)
        if found.whole:  # it may be used soon
            memory.of_process().put(key, recording.samples)
    return key, found


class _Progress:
    """Lines of the log while many recordings are measured."""

    def __init__(self, recordings: int) -> None:
        self.recordings = recordings
        self.said = time.monotonic()

    def show(self, number: int) -> None:
        """Log how many recordings are measured, every few seconds."""
        if time.monotonic() - self.said < PROGRESS_SECONDS:
            return
        from flwr.common import log  # takes a second to import

        self.said = time.monotonic()
        log(INFO, "data: checked %d of %d recordings", number, self.recordings)


def prepare(
    dataset: "Dataset",
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float] = SECONDS,
) -> tuple[list[Utterance], Skipped]:
    """Return the usable recordings of a data set, and those that were skipped.

    A recording is skipped if its file is missing or no audio, its text has no words, or it is too
    long; a long recording is decoded only until it is, because half an hour would exhaust a
    device's memory. To train, it is also skipped if it is silent, too short, or too short for its
    text: CTC needs a frame per label and one between equal labels. Such recordings are kept to
    test: what the model cannot recognise counts as an error.

    Recordings that the index does not know are decoded one by one, which can take minutes.

    Parameters
    ----------
    dataset : Dataset
        Rows with ``audio``, ``text`` and ``speaker``.
    tokenizer, config
        Of the model, for its characters and its number of frames.
    to_train : bool
        Whether the recordings are for training or for testing.
    seconds : tuple of float
        Shortest (to train) and longest duration.
    """
    utterances: list[Utterance] = []
    skipped = Skipped()
    progress = _Progress(len(dataset))
    with index.opened() as known:
        for number, fields in enumerate(dataset):
            progress.show(number)
            row = check_text(fields, tokenizer, skipped)
            if row is None:
                continue
            try:
                key, found = measure(fields, row.name, seconds[1], known)
            except audio.AudioError as error:
                skip_unreadable(row, error, skipped)
                continue
            if _is_usable(row, found, config, to_train, seconds, skipped):
                recorded = Recorded(dataset, number, key, row.name, found.num_samples)
                utterances.append(Utterance(row.name, recorded, row.text, row.labels))
    return utterances, skipped


def _is_usable(
    row: Row,
    found: Measurement,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float],
    skipped: Skipped,
) -> bool:
    """Return whether a measured recording can be used; if not, skip it."""
    duration = found.seconds
    if duration > seconds[1]:  # decoding stopped there: only the header may know the length
        duration = max(duration, found.header_seconds or 0.0)
    elif found.remark:
        skipped.headers.append(f"{row.name}: {found.remark}")
    if not check_length(row, duration, config, to_train, seconds, skipped):
        return False
    if to_train and (reason := _silence(found)):
        skipped.add(row.name, "silent", reason)
        return False
    return True
