"""The speech that lives on this node: what it trains on, and what it keeps back to test on."""

import random
from functools import lru_cache

from flwr.app import Context
from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.partition import utterances_of
from efmodel.settings import Settings
from efmodel.speech import corpus, vocabulary
from efmodel.speech.recordings import DataError, Limits
from efmodel.speech.utterances import SECONDS, Utterance, prepare

HELD_OUT = 0.1  # share of a node's utterances that it never trains on

Recordings = tuple[list[Utterance], list[Utterance], int]


def recordings(
    context: Context,
    settings: Settings,
    config: EarlyExitConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Recordings:
    """Return this node's utterances to train on, those held out, and how many were left out.

    In simulation a node holds its partition of the corpus's training half; a deployed node holds
    all of its own ``data-path``; of either at most ``max-utterances``. Which utterances are held
    out is the same in every round.

    Raises
    ------
    DataError
        If the data is missing or leaves nothing to train on.
    """
    node = context.node_config
    path = str(node.get("data-path", settings.data_path))
    data = "audiofolder" if "data-path" in node else settings.data
    part = None
    if "partition-id" in node:
        part = (int(node["partition-id"]), int(node["num-partitions"]))
    frames = (config.frontend, tuple(config.conv_kernel), tuple(config.conv_stride))
    return _recordings(data, path, part, settings, _Key((config, tokenizer), frames))


class _Key:
    """Model and tokenizer as part of a cache's key: equal where they cut and spell alike."""

    def __init__(
        self, value: tuple[EarlyExitConfig, PreTrainedTokenizerBase], frames: tuple[object, ...]
    ) -> None:
        self.value = value
        self._same = (frames, vocabulary.to_json(value[1]))

    def __hash__(self) -> int:
        return hash(self._same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._same == other._same


# A simulated node comes back to the same process round after round: decode its speech once. 64
# nodes with two minutes of speech each are 0.5 GB.
@lru_cache(maxsize=64)
def _recordings(
    data: str, path: str, part: tuple[int, int] | None, settings: Settings, key: _Key
) -> Recordings:
    config, tokenizer = key.value
    limits = Limits() if part is None else Limits.of(settings)
    dataset = corpus.load(data, path, limits).train
    mine = list(range(len(dataset)))
    if part is not None:
        mine = utterances_of(settings.partition, dataset["speaker"][:], *part, settings.seed)
    if 0 < settings.max_utterances < len(mine):
        mine = sorted(random.Random(settings.seed).sample(mine, settings.max_utterances))
    seconds = (SECONDS[0], settings.max_seconds)
    utterances, skipped = prepare(
        dataset.select(mine), tokenizer, config, to_train=True, seconds=seconds
    )
    skipped.log(path or data)
    if not utterances:  # an error travels to the server: it names no file and quotes no text
        reasons = skipped.by_kind() or "no recordings"
        raise DataError(f"found no utterance to train on: {reasons}; this node's log names them")
    random.Random(0).shuffle(utterances)
    held_out = int(len(utterances) * HELD_OUT)
    return utterances[held_out:], utterances[:held_out], len(skipped.recordings)
