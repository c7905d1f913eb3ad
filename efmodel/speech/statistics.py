"""Count the speech in a data set, and what would be skipped, from the headers of its files."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.errors import MAX_NAMED
from efmodel.model.loading import describe_start, has_own_vocabulary
from efmodel.settings import Settings
from efmodel.speech import alphabet, audio, corpus, vocabulary
from efmodel.speech.normaliser import in_units
from efmodel.speech.utterances import (
    SECONDS,
    Skipped,
    check_length,
    check_text,
    skip_unreadable,
)

if TYPE_CHECKING:  # datasets takes seconds to import
    from datasets import Dataset


@dataclass
class Census:
    """Counts of the usable utterances, and the skipped ones.

    Attributes
    ----------
    seconds : list of float
        Duration of each usable utterance.
    speakers : dict
        Seconds of usable audio by speaker.
    words : Counter
        Number of occurrences of each word.
    skipped : Skipped
        The other recordings.
    """

    seconds: list[float] = field(default_factory=list)
    speakers: dict[str, float] = field(default_factory=dict)
    words: Counter[str] = field(default_factory=Counter)
    skipped: Skipped = field(default_factory=Skipped)

    def figures(self) -> dict[str, str]:
        """Return ``{name: value}``, as text to print."""
        seconds = self.seconds or [0.0]
        durations = [min(seconds), median(seconds), max(seconds)]
        return {
            "speakers": str(len(self.speakers)),
            "utterances": str(len(self.seconds)),
            "hours": f"{sum(seconds) / 3600:.2f}",
            "shortest, median, longest s": ", ".join(f"{duration:.1f}" for duration in durations),
            "median minutes a speaker": f"{median(self.speakers.values() or [0.0]) / 60:.1f}",
            "words": str(sum(self.words.values())),
            "different words": str(len(self.words)),
            "characters": str(sum(len(word) * n for word, n in self.words.items())),
            "skipped": str(len(self.skipped.recordings)),
        }

    def remarks(self) -> list[str]:
        """Return lines about skipped recordings (the first by name) and dropped characters."""
        lines = []
        if self.skipped.recordings:
            lines.append(f"{len(self.skipped.recordings)} skipped: {self.skipped.by_kind()}")
        lines += [f"  {name}: {reason}" for name, reason in self.skipped.recordings[:MAX_NAMED]]
        if self.skipped.characters:
            lines.append(f"characters dropped: {self.skipped.dropped_characters()}")
        return lines


def count(
    dataset: "Dataset", tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig, to_train: bool
) -> Census:
    """Count a data set as a model with this tokenizer and configuration would train (or test)."""
    census = Census()
    for fields in dataset:
        row = check_text(fields, tokenizer, census.skipped)
        if row is None:
            continue
        try:
            seconds = audio.duration(row.source, row.name, longest=SECONDS[1])
        except audio.AudioError as error:
            skip_unreadable(row, error, census.skipped)
            continue
        if check_length(row, seconds, config, to_train, SECONDS, census.skipped):
            census.seconds.append(seconds)
            speaker = fields["speaker"]
            census.speakers[speaker] = census.speakers.get(speaker, 0.0) + seconds
            census.words.update(in_units(row.text).split())
    return census


def of_corpus(data: str, copy: str, settings: Settings) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of a run on a corpus with one client per speaker.

    None if the run config or the model has one that does not depend on the corpus. Parameters and
    exceptions are those of ``count_corpus``.
    """
    if settings.vocabulary != alphabet.AUTO or has_own_vocabulary(settings.model):
        return None
    name, folder = corpus.named(data)
    speech = corpus.load(name, folder or copy).train
    texts: dict[str, list[str | None]] = {}
    for speaker, text in zip(speech["speaker"], speech["text"], strict=True):
        texts.setdefault(speaker, []).append(text)
    every_letter = alphabet.every_letter(settings.normaliser)
    used = [alphabet.count(of_speaker, every_letter).alphabet for of_speaker in texts.values()]
    _, default = describe_start(settings)
    return vocabulary.of_texts(used, settings.vocabulary_min_nodes, default)[0]


def count_corpus(
    data: str, copy: str, tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig
) -> dict[str, Census]:
    """Count the splits of a corpus, "train" and, if there is one, "test".

    Parameters
    ----------
    data : str
        A folder of recordings, or a corpus by name.
    copy : str
        The folder of a local copy of a corpus on the Hub; empty for none.
    tokenizer, config : PreTrainedTokenizerBase, EarlyExitConfig
        Of the model whose vocabulary and frames decide which utterances can be used.

    Raises
    ------
    DataError
        If there is no such corpus.
    """
    name, folder = corpus.named(data)
    source = corpus.load(name, folder or copy)
    splits = {"train": count(source.train, tokenizer, config, to_train=True)}
    if source.test is not None:
        splits["test"] = count(source.test, tokenizer, config, to_train=False)
    return splits
