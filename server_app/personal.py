"""Personal models: how well the result of a run serves each client, as it is and fine-tuned there.

After the last round each node is sent the result, cut at its capacity. It scores it on its held-out
speech, fine-tunes it on the rest, and scores it again. The fine-tuned models stay on the nodes.
"""

from dataclasses import dataclass

from flwr.app import Message, MessageType, MetricRecord

from efmodel.protocol import (
    CHARACTER_ERRORS,
    CHARACTERS,
    METRICS,
    PERSONAL,
    WORD_ERRORS,
    WORDS,
)
from server_app.strategy.reply import BadReplyError
from server_app.survey import Survey


@dataclass(frozen=True)
class ClientResult:
    """Errors on one client's held-out speech, at its deepest exit.

    Attributes
    ----------
    capacity : int
        That exit.
    words, characters : int
        In the reference texts.
    word_errors, character_errors : list of int
        Of the model received, and of the personal one.
    """

    capacity: int
    words: int
    characters: int
    word_errors: list[int]
    character_errors: list[int]


def personalise(survey: Survey) -> dict[str, ClientResult]:
    """Return the result of each node that answers, by the node's name."""
    return survey.ask("personal models", f"{MessageType.EVALUATE}.{PERSONAL}", read_result)


def read_result(reply: Message, capacity: int) -> ClientResult:
    """Return the result that a node of that capacity sent.

    Raises
    ------
    BadReplyError
        If the node held no speech out, or if its counts cannot be true.
    """
    records = [reply.content.metric_records.get(key, MetricRecord()) for key in (METRICS, PERSONAL)]
    words, characters = (_count(records[0].get(key), key) for key in (WORDS, CHARACTERS))
    if not (words and characters):
        raise BadReplyError("found no held-out speech")
    return ClientResult(
        capacity, words, characters,
        [_at_exit(record, WORD_ERRORS, capacity) for record in records],
        [_at_exit(record, CHARACTER_ERRORS, capacity) for record in records],
    )  # fmt: skip


def _at_exit(record: MetricRecord, key: str, exit: int) -> int:
    """Return the count of a metric that has one for each exit."""
    values = record.get(key)
    if not isinstance(values, list) or len(values) != exit:
        raise BadReplyError(f"{key}: found {values!r}, wanted {exit} numbers")
    return _count(values[-1], key)


def _count(value: object, key: str) -> int:
    if type(value) is not int or value < 0:
        raise BadReplyError(f"{key}: found {value!r}, wanted a whole number from 0")
    return value
