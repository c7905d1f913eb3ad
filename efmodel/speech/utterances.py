"""From recordings to what a model takes: samples and labels, with all that was left out named."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import torch
import torchaudio
from datasets import Dataset
from flwr.common import log
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.model.loss import IGNORED
from efmodel.speech import audio, text

SECONDS = (0.1, 30.0)  # shortest and longest recording that is used
NAMED = 5  # recordings left out that a log names; of the others it says how many


@dataclass(frozen=True)
class Utterance:
    """One recording, decoded: samples ``[samples]`` at 16 kHz, its text and labels."""

    name: str
    samples: Tensor
    text: str
    labels: list[int]

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLE_RATE


@dataclass
class Skipped:
    """What was left out and why, and which characters were dropped from texts."""

    recordings: list[tuple[str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, kind: str, reason: str) -> None:
        """Leave a recording out: for what kind of reason, and what it is in this case."""
        self.recordings.append((name, reason))
        self.kinds[kind] += 1

    def by_kind(self) -> str:
        """Say how many were left out for each kind of reason."""
        return ", ".join(f"{kind} x{n}" for kind, n in self.kinds.most_common())

    def dropped(self) -> str:
        """Say how often each character was dropped."""
        return ", ".join(f"{c!r} x{n}" for c, n in self.characters.most_common())

    def log(self, where: str) -> None:
        """Name the first recordings left out, count all, and list the characters dropped."""
        for name, reason in self.recordings[:NAMED]:
            log(WARNING, "%s: skipped %s: %s", where, name, reason)
        if len(self.recordings) > NAMED:
            log(WARNING, "%s: skipped %d in all: %s", where, len(self.recordings), self.by_kind())
        if self.characters:
            log(INFO, "%s: characters outside the vocabulary, dropped: %s", where, self.dropped())


@dataclass(frozen=True)
class Row:
    """One recording before it is decoded: what its header and its transcript say."""

    name: str
    source: bytes | str
    text: str
    labels: list[int]
    seconds: float


def examine(
    row: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float],
    skipped: Skipped,
) -> Row | None:
    """Return what is known of a recording without decoding it, or None with a word to ``skipped``.

    See ``prepare`` for what is left out.
    """
    source = row["audio"]["bytes"] or row["audio"]["path"]
    name = Path(row["audio"]["path"] or "unnamed").name
    words, dropped = text.normalise(row["text"], tokenizer)
    skipped.characters += dropped
    if not words:
        skipped.add(name, "no words", f"found text {row['text']!r}, wanted words")
        return None
    try:
        found = audio.duration(source, name)
    except audio.AudioError as error:
        skipped.add(name, "no audio", str(error))
        return None
    shortest, longest = seconds
    if found > longest:
        skipped.add(name, "too long", f"found {found:.1f} s of audio, wanted at most {longest:g}")
        return None
    if to_train and found < shortest:
        reason = f"found {found:.3f} s of audio, wanted at least {shortest:g}"
        skipped.add(name, "too short", reason)
        return None
    labels = text.encode(words, tokenizer)
    reason = _lack_of_frames(round(found * SAMPLE_RATE), words, labels, config, to_train)
    if reason:
        skipped.add(name, "too short for its text", reason)
        return None
    return Row(name, source, words, labels, found)


def _lack_of_frames(
    samples: int, words: str, labels: list[int], config: EarlyExitConfig, to_train: bool
) -> str:
    frames, wanted = config.num_frames(samples), text.min_frames(labels)
    if frames >= (wanted if to_train else 1):
        return ""
    found = f"found {samples / SAMPLE_RATE:.2f} s of audio = {frames} frames"
    return f"{found}, wanted {wanted} for {words!r}"


def prepare(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    to_train: bool,
    seconds: tuple[float, float] = SECONDS,
) -> tuple[list[Utterance], Skipped]:
    """Decode the recordings of a data set.

    Left out and named: a file that is no audio, an empty text, a recording longer than
    ``seconds`` allows (it is not even decoded: half an hour of it would kill a device), and, to
    train, one that is shorter, or too short for its text (CTC needs a frame per label and a blank
    between equal neighbours). To test, short audio stays in: what the model cannot say counts
    against it.
    """
    utterances: list[Utterance] = []
    skipped = Skipped()
    for each in dataset:
        row = examine(each, tokenizer, config, to_train, seconds, skipped)
        if row is None:
            continue
        try:
            samples = audio.load(row.source, row.name)
        except audio.AudioError as error:  # broken behind its header
            skipped.add(row.name, "no audio", str(error))
            continue
        # A header may promise more than there is.
        reason = _lack_of_frames(len(samples), row.text, row.labels, config, to_train)
        if reason:
            skipped.add(row.name, "too short for its text", reason)
            continue
        utterances.append(Utterance(row.name, samples, row.text, row.labels))
    return utterances, skipped


def at_speed(utterance: Utterance, speed: float) -> Utterance:
    """Return the utterance played ``speed`` times as fast: shorter, and higher in pitch.

    Ko et al., "Audio augmentation for speech recognition" (Interspeech 2015), with 0.9, 1, 1.1.
    """
    if speed == 1.0:
        return utterance
    rate = round(100 * speed)  # in hundredths, so that resampling has a small common divisor
    samples = torchaudio.functional.resample(utterance.samples, rate, 100)
    return replace(utterance, samples=samples)


Inputs = Callable[[Iterable[Utterance]], dict[str, Any]]  # from utterances to a model's arguments


def collate(utterances: Iterable[Utterance]) -> dict[str, Tensor]:
    """Return one batch for the model: ``input_values``, ``attention_mask`` and ``labels``.

    ``input_values`` and ``attention_mask`` are ``[batch, samples]``, ``labels`` is
    ``[batch, labels]`` padded with -100.
    """
    batch = list(utterances)
    pad = torch.nn.utils.rnn.pad_sequence
    samples = [utterance.samples for utterance in batch]
    labels = [torch.tensor(utterance.labels) for utterance in batch]
    return {
        "input_values": pad(samples, batch_first=True),
        "attention_mask": pad([torch.ones(len(x), dtype=torch.long) for x in samples], True),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }
