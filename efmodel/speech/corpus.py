"""Load a corpus by name: a local folder, a corpus on the Hub, the sample, or a plug-in's."""

import random
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import entry_points
from logging import INFO, WARNING
from pathlib import Path

from datasets import Dataset

from efmodel.errors import MAX_NAMED, did_you_mean
from efmodel.speech import hub
from efmodel.speech.hub_sources import SOURCES
from efmodel.speech.recordings import Corpus, DataError, Limits, audiofolder, speakers

NO_LIMITS = Limits()


@lru_cache(maxsize=2)
def load(data: str, data_path: str, limits: Limits = NO_LIMITS) -> Corpus:
    """Return the corpus that the run config's ``data`` and ``data-path`` name, and log its faults.

    The last corpora are kept: clients simulated in one process share them.

    Raises
    ------
    DataError
        If there is no such corpus, it cannot be read, or the limits do not fit it.
    """
    corpus = read(data, data_path, limits)
    if corpus.left_out or corpus.notes:
        _log(corpus, data_path or data)
    return corpus


def read(data: str, data_path: str, limits: Limits = NO_LIMITS) -> Corpus:
    """Return a corpus as :func:`load` does, but log nothing and keep nothing."""
    corpus = _read(data, data_path, limits)
    if limits.max_speakers:
        first = set(list(dict.fromkeys(corpus.train["speaker"][:]))[: limits.max_speakers])
        corpus = replace(corpus, train=_of_speakers(corpus.train, first))
    if limits.tune_speakers:
        corpus = _for_tuning(corpus, limits.tune_speakers)
    return corpus


def _log(corpus: Corpus, where: str) -> None:
    """Log what a user should know of how a corpus was read, and which rows were left out."""
    from flwr.common import log  # takes a second to import

    for note in corpus.notes:
        log(INFO, "%s: %s", where, note)
    for fault in corpus.faults[:MAX_NAMED]:
        log(WARNING, "%s", fault)
    if corpus.left_out:
        counts = ", ".join(f"{reason} x{n}" for reason, n in sorted(corpus.left_out.items()))
        log(WARNING, "%s: rows left out: %s", where, counts)


def _for_tuning(corpus: Corpus, num_test: int) -> Corpus:
    """Return the training half only, split by speaker: ``num_test`` speakers to test on."""
    names = speakers(corpus.train)
    if num_test >= len(names):
        raise DataError(
            f"tune-speakers: found {num_test}, wanted fewer than the {len(names)} training speakers"
        )
    test = set(random.Random(0).sample(names, num_test))  # independent of the run's seed
    return replace(
        corpus,
        train=_of_speakers(corpus.train, set(names) - test),
        test=_of_speakers(corpus.train, test),
    )


def _of_speakers(dataset: Dataset, names: set[str]) -> Dataset:
    return dataset.select([i for i, name in enumerate(dataset["speaker"][:]) if name in names])


def _read(data: str, data_path: str, limits: Limits) -> Corpus:
    if limits.streaming and (
        data not in SOURCES or not (limits.max_speakers and limits.max_utterances)
    ):
        raise DataError(
            f"data-streaming: found data {data}, max-speakers {limits.max_speakers} and "
            f"max-utterances {limits.max_utterances}, wanted one of {', '.join(SOURCES)}, and "
            "both limits above 0"
        )
    if data in SOURCES:
        return hub.load(data, data_path, limits)
    if data == "audiofolder":
        if not data_path:
            raise DataError("data-path: found nothing, wanted a folder, as data is audiofolder")
        return audiofolder(Path(data_path).expanduser(), limits.columns, limits.language)
    sources = entry_points(group="ef_asr.corpora")
    if data not in sources.names:
        names = sorted({"audiofolder", *SOURCES, *sources.names})
        hint = did_you_mean(data, names)
        raise DataError(f"data: found {data!r}, wanted one of {', '.join(names)}{hint}")
    corpus: Corpus = sources[data].load()()
    return corpus


def named(data: str, copy: str = "") -> tuple[str, str]:
    """Return the run config's ``data`` and ``data-path`` for a command's ``--data``.

    Parameters
    ----------
    data : str
        A folder, or the name of a corpus.
    copy : str
        Local copy of a named corpus; empty if there is none.
    """
    path = Path(data).expanduser()
    if path.is_dir() or "/" in data:
        return "audiofolder", str(path.resolve())
    return data, copy
