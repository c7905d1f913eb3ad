"""A corpus by the name that the run config gives it: a folder, the Hub, the sample, a plug-in's."""

import random
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import entry_points
from logging import WARNING
from pathlib import Path

from datasets import Dataset
from flwr.common import log

from efmodel.errors import did_you_mean
from efmodel.speech import hub
from efmodel.speech.recordings import Corpus, DataError, Limits, audiofolder, speakers

NO_LIMITS = Limits()


@lru_cache(maxsize=2)
def load(data: str, data_path: str, limits: Limits = NO_LIMITS) -> Corpus:
    """Return the corpus that the run config's ``data`` and ``data-path`` name.

    Raises
    ------
    DataError
        If there is no such source, or it is not in order.
    """
    corpus = _source(data, data_path, limits)
    if corpus.left_out:
        found = ", ".join(f"{reason} x{n}" for reason, n in sorted(corpus.left_out.items()))
        log(WARNING, "%s: rows left out: %s", data_path or data, found)
    if limits.max_speakers:
        first = set(list(dict.fromkeys(corpus.train["speaker"][:]))[: limits.max_speakers])
        corpus = replace(corpus, train=_spoken_by(corpus.train, first))
    if limits.tune_speakers:
        corpus = _for_tuning(corpus, limits.tune_speakers)
    return corpus


def _for_tuning(corpus: Corpus, held_back: int) -> Corpus:
    """Return the training half alone, ``held_back`` of its speakers as what to test on."""
    everybody = speakers(corpus.train)
    if held_back >= len(everybody):
        raise DataError(
            f"tune-speakers: found {held_back}, wanted fewer than the {len(everybody)} "
            "training speakers"
        )
    test = set(random.Random(0).sample(everybody, held_back))  # the same ones whatever the seed
    return replace(
        corpus,
        train=_spoken_by(corpus.train, set(everybody) - test),
        test=_spoken_by(corpus.train, test),
    )


def _spoken_by(dataset: Dataset, names: set[str]) -> Dataset:
    return dataset.select([i for i, name in enumerate(dataset["speaker"][:]) if name in names])


def _source(data: str, data_path: str, limits: Limits) -> Corpus:
    if limits.streaming and (
        data not in hub.SOURCES or not (limits.max_speakers and limits.max_utterances)
    ):
        raise DataError(
            f"data-streaming: found data {data}, max-speakers {limits.max_speakers} and "
            f"max-utterances {limits.max_utterances}, wanted one of {', '.join(hub.SOURCES)}, and "
            "both limits above 0"
        )
    if data in hub.SOURCES:
        return hub.load(data, data_path, limits)
    if data == "audiofolder":
        if not data_path:
            raise DataError("data-path: found nothing, wanted a folder (data is audiofolder)")
        return audiofolder(Path(data_path).expanduser())
    sources = entry_points(group="ef_asr.corpora")
    if data not in sources.names:
        known = sorted({"audiofolder", *hub.SOURCES, *sources.names})
        hint = did_you_mean(data, known)
        raise DataError(f"data: found {data!r}, wanted one of {', '.join(known)}{hint}")
    corpus: Corpus = sources[data].load()()
    return corpus


def named(data: str, copy: str = "") -> tuple[str, str]:
    """Return ``data`` and ``data-path`` for what a user calls data: a folder, or a name.

    ``copy`` is where a named corpus lies on this machine; empty: nowhere.
    """
    path = Path(data).expanduser()
    if path.is_dir() or "/" in data:
        return "audiofolder", str(path.resolve())
    return data, copy
