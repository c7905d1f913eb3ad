"""A node's recordings: those to train on, and those held out to score the received model."""

import random
from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from client_app.task import Task
from client_app.texts import limits, of_partition, source
from efmodel.config import EarlyExitConfig
from efmodel.settings import Settings
from efmodel.speech import corpus, memory, vocabulary
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
    """Return this node's recordings, which are decoded on demand.

    A simulated node holds its partition of the corpus's training half. A device holds all of its
    own ``data-path``. Either holds at most ``max-utterances``. The same utterances are held out in
    every round.

    Raises
    ------
    DataError
        If the data is missing or leaves nothing to train on.
    """
    data, path = source(task)
    memory.of_process().limit = task.settings.audio_mb * 1_000_000
    key = _Preparation(config, tokenizer)
    return _recordings(data, path, limits(task), task.partition, task.settings, key)


def read_again() -> None:
    """Read all recordings again when they are asked for: some have changed."""
    _recordings.cache_clear()


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


# In a simulation one process plays the same nodes in every round: each node's texts are read once.
# They take about 2 kB an utterance; the audio has a memory of its own.
@lru_cache(maxsize=64)
def _recordings(
    data: str,
    path: str,
    read: Limits,
    partition: tuple[int, int] | None,
    settings: Settings,
    preparation: _Preparation,
) -> Recordings:
    dataset = corpus.load(data, path, read).train
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
