"""All that ``ef-asr data`` finds of a corpus before a run."""

from collections import Counter
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.speech import levels, statistics
from efmodel.speech.recordings import Corpus
from efmodel.speech.vocabulary import single_letters


@dataclass(frozen=True)
class Half:
    """The training or the test half of a corpus.

    Attributes
    ----------
    census : Census
        What is in it, and what is skipped.
    levels : Levels
        What is wrong with the sound of those recordings that were decoded.
    """

    census: statistics.Census
    levels: levels.Levels


@dataclass(frozen=True)
class Overview:
    """What a corpus holds, as a model with this vocabulary would use it.

    Attributes
    ----------
    where : str
        The folder, or the corpus's name.
    corpus : Corpus
        As it was read.
    halves : dict
        "train" and, if there is one, "test".
    vocabulary : frozenset of str
        The single characters of the model's tokenizer.
    """

    where: str
    corpus: Corpus
    halves: dict[str, Half]
    vocabulary: frozenset[str]

    @property
    def usable(self) -> bool:
        """Whether any recording can be used."""
        return any(half.census.seconds for half in self.halves.values())

    def outside(self) -> dict[str, int]:
        """Return the letters that the vocabulary lacks, and how often each one occurs."""
        known = {*map(str.lower, self.vocabulary), *map(str.upper, self.vocabulary)}
        letters = self.letters()
        return {letter: n for letter, n in letters.items() if letter not in known}

    def letters(self) -> dict[str, int]:
        """Return all letters of the texts in their order, and how often each one occurs."""
        none: Counter[str] = Counter()
        total = sum((half.census.letters for half in self.halves.values()), start=none)
        return dict(sorted(total.items()))


def overview(
    where: str,
    source: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    heard: int,
) -> Overview:
    """Count a corpus.

    Parameters
    ----------
    where : str
        Its folder or name.
    source : Corpus
        The corpus.
    tokenizer, config : PreTrainedTokenizerBase, EarlyExitConfig
        Of the model whose vocabulary and frames decide which utterances can be used.
    heard : int
        Recordings of each half to decode, to find silence, clipping and offsets.
    """
    datasets = {"train": source.train, "test": source.test}
    halves = {
        half: Half(
            statistics.count(dataset, tokenizer, config, to_train=half == "train"),
            levels.listen(dataset, heard),
        )
        for half, dataset in datasets.items()
        if dataset is not None
    }
    return Overview(where, source, halves, single_letters(tokenizer))
