"""A node's recordings: those to train on, and those held out to score the received model."""

import random
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from client_app.task import Task
from efmodel.config import EarlyExitConfig
from efmodel.partition import utterances_of
from efmodel.settings import Settings
from efmodel.speech import corpus, vocabulary
from efmodel.speech.recordings import DataError, Limits
from efmodel.speech.utterances import SECONDS, Utterance, prepare

HELD_OUT = 0.1  # share of a node's utterances that it never trains on


class Recordings(NamedTuple):
    """A node's utterances, and the number of recordings that were left out."""

    to_train: list[Utterance]
    held_out: list[Utterance]
    skipped: int


def recordings(
    task: Task, config: EarlyExitConfig, tokenizer: PreTrainedTokenizerBase
) -> Recordings:
    """Return this node's recordings, decoded.

    A simulated node holds its partition of the corpus's training half. A device holds all of its
    own ``data-path``. Either holds at most ``max-utterances``. The same utterances are held out in
    every round.

    Raises
    ------
    DataError
        If the data is missing or leaves nothing to train on.
    """
    node = task.node_config
    path = str(node.get("data-path", task.settings.data_path))
    data = "audiofolder" if "data-path" in node else task.settings.data
    columns = str(node.get("columns", task.settings.columns))
    settings = replace(task.settings, columns=columns)
    key = _Preparation(config, tokenizer)
    return _recordings(data, path, task.partition, settings, key)


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


class _Preparation:
    """Model and tokenizer as part of a cache key.

    Two are equal if they make the same frames of the same samples, and the same labels of the same
    text: each message brings new objects.
    """

    def __init__(self, config: EarlyExitConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config, self.tokenizer = config, tokenizer
        frames = (config.frontend, tuple(config.conv_kernel), tuple(config.conv_stride))
        self._key = (frames, vocabulary.to_json(tokenizer))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Preparation) and self._key == other._key


# In a simulation one process plays the same nodes in every round: each node's speech is decoded
# once. 64 nodes with two minutes of speech each take 0.5 GB.
@lru_cache(maxsize=64)
def _recordings(
    data: str,
    path: str,
    partition: tuple[int, int] | None,
    settings: Settings,
    preparation: _Preparation,
) -> Recordings:
    limits = Limits.of(settings)
    if partition is None:  # a device uses all that it has
        limits = Limits(language=settings.language, columns=settings.columns)
    dataset = corpus.load(data, path, limits).train
    indices = of_partition(dataset, partition, settings)
    utterances, skipped = prepare(
        dataset.select(indices),
        preparation.tokenizer,
        preparation.config,
        to_train=True,
        seconds=(SECONDS[0], settings.max_seconds),
    )
    skipped.log(path or data)
    if not utterances:  # an error travels to the server: it names no file and quotes no text
        reasons = skipped.by_kind() or "no recordings"
        raise DataError(f"found no utterance to train on: {reasons}; this node's log names them")
    random.Random(0).shuffle(utterances)
    held_out = int(len(utterances) * HELD_OUT)
    return Recordings(utterances[held_out:], utterances[:held_out], len(skipped.recordings))
