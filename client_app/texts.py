"""A node's texts: which recordings are its own, and what a vocabulary makes of their texts.

A query is answered with it, so it loads neither torch nor transformers.
"""

import random
from dataclasses import replace
from functools import lru_cache
from logging import WARNING

from datasets import Dataset
from flwr.common import log

from client_app.task import Task
from efmodel.partition import utterances_of
from efmodel.protocol import ASK_ALPHABET, TOKENIZER, answer_texts
from efmodel.settings import Settings
from efmodel.speech import alphabet, corpus
from efmodel.speech.recordings import Limits
from efmodel.speech.spelling import Spelling


def source(task: Task) -> tuple[str, str]:
    """Return the name and the path of the corpus that this node's recordings are from.

    A simulated node has the run config's corpus, a device its own ``data-path``.
    """
    node = task.node_config
    path = str(node.get("data-path", task.settings.data_path))
    return "audiofolder" if "data-path" in node else task.settings.data, path


def limits(task: Task) -> Limits:
    """Return what is read of the corpus; a device uses all that it has."""
    settings = task.settings
    columns = str(task.node_config.get("columns", settings.columns))
    if task.partition is None:
        return Limits(language=settings.language, columns=columns)
    return replace(Limits.of(settings), columns=columns)


def of_partition(
    dataset: Dataset, partition: tuple[int, int] | None, settings: Settings
) -> list[int]:
    """Return the indices of a node's recordings in a corpus's training half.

    Parameters
    ----------
    dataset : Dataset
        The training half.
    partition : tuple of int, optional
        A simulated node's number and how many there are; None for a device, which holds all.
    settings : Settings
        ``partition``, ``max_utterances`` and ``seed`` are used.
    """
    indices = list(range(len(dataset)))
    if partition is not None:
        speakers = dataset["speaker"][:]
        indices = utterances_of(settings.partition, speakers, *partition, settings.seed)
    if 0 < settings.max_utterances < len(indices):
        indices = sorted(random.Random(settings.seed).sample(indices, settings.max_utterances))
    return indices


def counted(task: Task) -> dict[str, str | list[int]]:
    """Return what the answer to a query says of this node's texts; empty if they cannot be read.

    A node whose data is at fault says so when it is asked to train.
    """
    if TOKENIZER not in task.request:  # a server app of the user's own
        return {}
    data, path = source(task)
    asked = bool(task.request.get(ASK_ALPHABET, False))
    try:
        result = _count(
            data, path, limits(task), task.partition, task.settings,
            str(task.request[TOKENIZER]), asked,
        )  # fmt: skip
    except Exception as error:  # of the library that reads the corpus, or of a plug-in
        log(WARNING, "%s: the texts cannot be read: %s", path or data, error)
        return {}
    if line := alphabet.warning(result):
        log(WARNING, "%s: %s", path or data, line)
    return answer_texts(result, asked)


@lru_cache(maxsize=64)  # a node may be queried twice
def _count(
    data: str,
    path: str,
    read: Limits,
    partition: tuple[int, int] | None,
    settings: Settings,
    tokenizer: str,
    every_letter: bool,
) -> alphabet.TextCount:
    """Count a node's texts as a tokenizer spells them, or as one would that lacks no letter."""
    spelling = Spelling.of_description(tokenizer)
    if every_letter:
        spelling = alphabet.every_letter(spelling.normaliser)
    dataset = corpus.load(data, path, read).train
    texts = dataset.select(of_partition(dataset, partition, settings))["text"]
    return alphabet.count(texts, spelling)
