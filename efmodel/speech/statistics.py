"""Count the speech in a data set, and what would be skipped, from the headers of its files."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.model.loading import describe_start, has_own_vocabulary
from efmodel.settings import Settings
from efmodel.speech import alphabet, audio, vocabulary
from efmodel.speech.normaliser import in_units
from efmodel.speech.recordings import Corpus
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
    utterances : Counter
        Number of usable utterances by speaker.
    words : Counter
        Number of occurrences of each word.
    letters : Counter
        Number of occurrences of each letter, mark and digit in the texts as they are written, in
        lower case; skipped recordings count too.
    conversions : Counter
        Number of usable utterances by what is done to their audio before it is used.
    skipped : Skipped
        The other recordings.
    """

    seconds: list[float] = field(default_factory=list)
    speakers: dict[str, float] = field(default_factory=dict)
    utterances: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
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


def count(
    dataset: "Dataset", tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig, to_train: bool
) -> Census:
    """Count a data set as a model with this tokenizer and configuration would train (or test)."""
    census = Census()
    for fields in dataset:
        census.letters.update(_letters(fields["text"] or ""))
        row = check_text(fields, tokenizer, census.skipped)
        if row is None:
            continue
        try:
            info = audio.info(row.source, row.name, longest=SECONDS[1])
        except audio.AudioError as error:
            skip_unreadable(row, error, census.skipped)
            continue
        if check_length(row, info.seconds, config, to_train, SECONDS, census.skipped):
            census.seconds.append(info.seconds)
            speaker = fields["speaker"]
            census.speakers[speaker] = census.speakers.get(speaker, 0.0) + info.seconds
            census.utterances[speaker] += 1
            census.words.update(in_units(row.text).split())
            census.conversions.update(_conversions(info))
    return census


def tokenizer_of_run(corpus: Corpus, settings: Settings) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of a run on a corpus with one client per speaker.

    None if the run config or the model has one that does not depend on the corpus.
    """
    if settings.vocabulary != alphabet.AUTO or has_own_vocabulary(settings.model):
        return None
    texts: dict[str, list[str | None]] = {}
    for speaker, text in zip(corpus.train["speaker"], corpus.train["text"], strict=True):
        texts.setdefault(speaker, []).append(text)
    return tokenizer_of_clients(texts.values(), settings, describe_start(settings)[1])


def tokenizer_of_clients(
    texts: Iterable[Iterable[str | None]], settings: Settings, default: PreTrainedTokenizerBase
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a run with ``vocabulary=auto`` will make of its clients' texts.

    Parameters
    ----------
    texts : Iterable
        Each client's texts.
    settings : Settings
        The run config.
    default : PreTrainedTokenizerBase
        The tokenizer of the model that the run config names.
    """
    every_letter = alphabet.every_letter(settings.normaliser)
    used = [alphabet.count(of_client, every_letter).alphabet for of_client in texts]
    return vocabulary.of_texts(used, settings.vocabulary_min_nodes, default)[0]


def _letters(text: str) -> list[str]:
    """Return the letters, marks and digits of a text, in lower case."""
    composed = unicodedata.normalize("NFC", text).lower()
    return [character for character in composed if unicodedata.category(character)[0] in "LMN"]


def _conversions(info: audio.Info) -> list[str]:
    """Return what is done to a recording before it is used."""
    done = []
    if info.part:
        done.append("cut out of a longer recording")
    if info.ffmpeg:
        done.append(f"{info.form} decoded by ffmpeg")
    if info.rate != SAMPLE_RATE:
        done.append(f"{info.rate} Hz resampled to {SAMPLE_RATE}")
    if info.channels > 1:
        done.append(f"{info.channels} channels mixed into one")
    return done
