"""The messages between server and nodes: every key, every metric, and their version.

A query and a training request hold one ``CONFIG`` record; a training request and its reply also
hold one ``ARRAYS`` record. A reply reports ``METRICS``. A node that cannot do what it was asked
for answers with an error whose code is a :class:`Refusal`.
"""

import json
from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, TypeGuard

from flwr.app import ConfigRecord

from efmodel.speech.alphabet import TextCount

if TYPE_CHECKING:  # a query is answered without torch and transformers, seconds of imports
    from transformers import PreTrainedTokenizerBase

    from efmodel.config import EarlyExitConfig

# Server and node compare this number. Raise it with any change to a message that an older node or
# an older server would misread.
PROTOCOL = 3

# Names of a message's records.
ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
# {tensor name: one number per row} of a request and its reply, see client_app.optimizer. A request
# with the record, even an empty one, asks for it in the reply.
SECOND_MOMENTS = "second-moments"
# The reply of an evaluation with this action: metrics of the personal model, beside METRICS of the
# model received.
PERSONAL = "personal"
SCALES = "scales"  # {tensor name: scale} of a reply in float16 or int8, see efmodel.wire

# Keys of a request's CONFIG record.
PROTOCOL_KEY = "protocol"
MODEL_CONFIG = "model-config"  # the whole model's EarlyExitConfig, as JSON
TOKENIZER = "tokenizer"  # the tokenizer, as JSON
SERVER_ROUND = "server-round"  # Flower's own name
CAPACITY = "capacity"  # also in a query's answer, and in the metrics of a reply that lowers it
WIRE_DTYPE = "wire-dtype"
FROZEN_SET = "frozen"  # the name under which a node keeps the frozen tensors on its disk
PROXIMAL_MU = "proximal-mu"  # sent by Flower's FedProx
ASK_ALPHABET = "ask-alphabet"  # of a query: which characters do this node's texts use?

# Secure aggregation: the stages around training, each a query with this action. Lists have one
# entry per client of the group, in the order of GROUP_IDS.
KEYS_STAGE = "keys"
SHARES_STAGE = "shares"
CHECK_STAGE = "check"
UNMASK_STAGE = "unmask"
MASK_KEY = "mask-key"  # public keys that a client answers
SHARE_KEY = "share-key"
GROUP_IDS = "group-ids"
GROUP_CAPACITIES = "group-capacities"
GROUP_MASK_KEYS = "group-mask-keys"
GROUP_SHARE_KEYS = "group-share-keys"
ENCRYPTED_SHARES = "encrypted-shares"  # for each client, or from each client
SHARE_DIGESTS = "share-digests"  # of the shares for each client, or from each client
SECRET_DIGESTS = "secret-digests"  # of the secrets that were split
REFUSED = "refused"  # ids of clients whose shares are not what their digests say
SURVIVORS = "survivors"  # ids of the clients whose masked tensors arrived
SHARES = "shares"  # what unmasks their sum
# Keys of the CONFIG record of a training request with secure aggregation.
PARTICIPANTS = "participants"  # ids of the clients that train
WEIGHTING = "weighting"
MAX_WEIGHT = "max-weight"
VALUE_RANGE = "value-range"
MAX_UPDATE_NORM = "max-update-norm"  # 0: none
BLOCK_TENSORS = "block-tensors-"  # and the owner exit: names of the block's trained tensors
# The reply's tensors are uint32. One per block, of shape [1], is the client's weight: its name is
# this and the owner exit.
BLOCK_WEIGHT = "block-weight-"

# Further keys of a query's answer.
NAME = "name"
TAG = "tag"
TEXT_COUNTS = "text-counts"  # list: texts, those without a letter left, letters, those lost
ALPHABET = "alphabet"  # the characters, if asked for, and how often each one is used
ALPHABET_COUNTS = "alphabet-counts"  # list

# Metrics of a training reply. The lists have one number per exit, shallow to deep.
NUM_EXAMPLES = "num-examples"  # utterances trained on; Flower's own name
SECONDS = "seconds"  # of audio trained on, each utterance once
SKIPPED = "skipped"  # recordings left out
TRAIN_LOSS = "train-loss"  # list
WALL_SECONDS = "wall-seconds"
PEAK_MEMORY = "peak-memory"  # bytes
LOSS = "loss"  # list; of the model received, on the client's held-out speech, like those below
WORD_ERRORS = "word-errors"  # list
CHARACTER_ERRORS = "character-errors"  # list
WORDS = "words"
CHARACTERS = "characters"
# A metric of the reply to an evaluation: the counts of a score's histogram, flat; see
# efmodel.decoding.calibration. Its key is this and the score's name.
HISTOGRAM = "histogram-"
# Error rates that the server computes from the counts.
WER = "wer"
CER = "cer"


class Refusal(IntEnum):
    """Error codes of a node that refuses a request; Flower's own codes are below 1000."""

    PROTOCOL = 1001  # the node speaks another version of this protocol
    CAPACITY = 1002  # the node can train less than the request asks for


def answer_texts(counted: TextCount, with_alphabet: bool) -> dict[str, str | list[int]]:
    """Return what a node's answer to a query says of its texts; none of them is in it."""
    answer: dict[str, str | list[int]] = {TEXT_COUNTS: counted.numbers()}
    if with_alphabet:
        answer[ALPHABET] = "".join(counted.alphabet)
        answer[ALPHABET_COUNTS] = list(counted.alphabet.values())
    return answer


def read_texts(answer: ConfigRecord) -> TextCount | None:
    """Return what a node's answer says of its texts; None if it says nothing, or nonsense."""
    numbers, characters = answer.get(TEXT_COUNTS), answer.get(ALPHABET, "")
    uses = answer.get(ALPHABET_COUNTS, [])
    if not (_are_counts(numbers, 4) and isinstance(characters, str)):
        return None
    if not _are_counts(uses, len(characters)):
        return None
    return TextCount.of(numbers, Counter(dict(zip(characters, uses, strict=True))))


def _are_counts(values: object, length: int) -> TypeGuard[list[int]]:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(type(value) is int and value >= 0 for value in values)
    )


def describe_model(config: "EarlyExitConfig", tokenizer: "PreTrainedTokenizerBase") -> ConfigRecord:
    """Return the model description that every request carries.

    A device needs no model folder of its own.
    """
    from efmodel.speech import vocabulary

    return ConfigRecord(
        {
            PROTOCOL_KEY: PROTOCOL,
            MODEL_CONFIG: config.to_json_string(),
            TOKENIZER: vocabulary.to_json(tokenizer),
        }
    )


def read_model(request: ConfigRecord) -> "tuple[EarlyExitConfig, PreTrainedTokenizerBase]":
    """Return the whole model's configuration and the tokenizer that a request describes."""
    from efmodel.config import EarlyExitConfig
    from efmodel.speech import vocabulary

    config = EarlyExitConfig.from_dict(json.loads(str(request[MODEL_CONFIG])))
    return config, vocabulary.from_json(str(request[TOKENIZER]))
