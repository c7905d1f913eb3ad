"""Utterances: decoded, labelled recordings; the others are skipped and reported."""

from collections import Counter
from dataclasses import dataclass, field
from logging import INFO, WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.speech import audio, text

if TYPE_CHECKING:  # datasets takes seconds to import; a trial step works without
    from datasets import Dataset

SECONDS = (0.1, 30.0)  # shortest and longest recording that is used
MAX_NAMED = 5  # skipped recordings that a report names; it counts the others


@dataclass(frozen=True)
class Utterance:
    """A decoded recording: samples ``[samples]`` at 16 kHz, normalised text, labels."""

    name: str
    samples: Tensor
    text: str
    labels: list[int]

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


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
        Number of occurrences of each dropped character.
    """

    recordings: list[tuple[str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

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
        """Log the first skipped recordings, their number, and the dropped characters.

        ``where`` starts each line: the data set's name or path.
        """
        if not (self.recordings or self.characters):
            return
        from flwr.common import log  # takes a second to import, and is needed only here

        for name, reason in self.recordings[:MAX_NAMED]:
            log(WARNING, "%s: skipped %s: %s", where, name, reason)
        if len(self.recordings) > MAX_NAMED:
            log(WARNING, "%s: skipped %d in all: %s", where, len(self.recordings), self.by_kind())
        if self.characters:
            dropped = self.dropped_characters()
            log(INFO, "%s: dropped characters outside the vocabulary: %s", where, dropped)


@dataclass(frozen=True)
class Row:
    """A usable recording before it is decoded, with the duration from its header."""

    name: str
    source: bytes | str
    text: str
    labels: list[int]
    seconds: float


def check_row(
    row: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float],
    skipped: Skipped,
) -> Row | None:
    """Return a usable recording, not decoded, or add it to ``skipped`` and return None.

    ``prepare`` lists what is skipped.
    """
    source = row["audio"]["bytes"] or row["audio"]["path"]
    name = Path(row["audio"]["path"] or "unnamed").name
    words, dropped = text.normalise(row["text"], tokenizer)
    skipped.characters += dropped
    if not words:
        skipped.add(name, "no words", f"found text {row['text']!r}, wanted words")
        return None
    try:
        duration = audio.duration(source, name)
    except audio.AudioError as error:
        skipped.add(name, "no audio", str(error))
        return None
    shortest, longest = seconds
    if duration > longest:
        reason = f"found {duration:.1f} s of audio, wanted at most {longest:g}"
        skipped.add(name, "too long", reason)
        return None
    if to_train and duration < shortest:
        reason = f"found {duration:.3f} s of audio, wanted at least {shortest:g}"
        skipped.add(name, "too short", reason)
        return None
    labels = text.encode(words, tokenizer)
    reason = _too_few_frames(round(duration * SAMPLE_RATE), words, labels, config, to_train)
    if reason:
        skipped.add(name, "too short for its text", reason)
        return None
    return Row(name, source, words, labels, duration)


def _too_few_frames(
    samples: int, words: str, labels: list[int], config: EarlyExitConfig, to_train: bool
) -> str:
    """Return why the audio is too short for its text, or an empty string."""
    frames, wanted = config.num_frames(samples), text.min_frames(labels)
    if frames >= (wanted if to_train else 1):
        return ""
    duration = f"{samples / SAMPLE_RATE:.2f} s of audio = {frames} frames"
    return f"found {duration}, wanted {wanted} for {words!r}"


def prepare(
    dataset: "Dataset",
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float] = SECONDS,
) -> tuple[list[Utterance], Skipped]:
    """Return the decoded recordings of a data set, and those that were skipped.

    A recording is skipped if its file is no audio, its text has no words, or it is too long; a
    long recording is not even decoded, because half an hour would exhaust a device's memory. To
    train, it is also skipped if it is too short, or too short for its text: CTC needs a frame per
    label and one between equal labels. Short recordings are kept to test: what the model cannot
    recognise counts as an error.

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
    for fields in dataset:
        row = check_row(fields, tokenizer, config, to_train, seconds, skipped)
        if row is None:
            continue
        try:
            samples = audio.load(row.source, row.name)
        except audio.AudioError as error:  # the header is readable, the rest is not
            skipped.add(row.name, "no audio", str(error))
            continue
        # A header may give more samples than the file has.
        reason = _too_few_frames(len(samples), row.text, row.labels, config, to_train)
        if reason:
            skipped.add(row.name, "too short for its text", reason)
            continue
        utterances.append(Utterance(row.name, samples, row.text, row.labels))
    return utterances, skipped
