"""Personal models: how well the result of a run serves each client, as it is and fine-tuned there.

After the last round each node is sent the result, cut at its capacity. It scores it on its held-out
speech, fine-tunes it on the rest, and scores it again. The fine-tuned models stay on the nodes.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.protocol import (
    ARRAYS,
    CAPACITY,
    CHARACTER_ERRORS,
    CHARACTERS,
    CONFIG,
    METRICS,
    PERSONAL,
    SERVER_ROUND,
    WORD_ERRORS,
    WORDS,
)
from efmodel.settings import Settings
from server_app.strategy.cohort import Cohort
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.node import Node
from server_app.strategy.reply import BadReplyError, error_reason


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


def personalise(
    grid: Grid,
    nodes: Sequence[Node],
    settings: Settings,
    request: ConfigRecord,
    arrays: ArrayRecord,
    owner_exits: Mapping[str, int],
) -> dict[str, ClientResult]:
    """Return the result of each node that answers within ``round-timeout``, by the node's name.

    Parameters
    ----------
    grid : Grid
        Where the nodes are connected.
    nodes : Sequence of Node
        All nodes that are known; those that are connected are asked.
    settings : Settings
        The run config.
    request : ConfigRecord
        The model description that every request carries.
    arrays : ArrayRecord
        The trained model.
    owner_exits : Mapping[str, int]
        ``{tensor name: shallowest exit that needs it}``.
    """
    connected = set(grid.get_node_ids())
    asked = [node for node in nodes if node.id in connected]
    contents = {}
    for capacity in {node.capacity for node in asked}:
        cut = ArrayRecord({n: a for n, a in arrays.items() if owner_exits[n] <= capacity})
        about = {**request, CAPACITY: capacity, SERVER_ROUND: settings.rounds + 1}
        contents[capacity] = RecordDict({ARRAYS: cut, CONFIG: ConfigRecord(about)})
    kind = f"{MessageType.EVALUATE}.{PERSONAL}"
    cohort = Cohort(
        {node: Message(contents[node.capacity], node.id, kind) for node in asked}, len(asked)
    )
    traffic, results = Traffic(), {}
    messages = cohort.messages.values()
    with closing(exchange(grid, messages, settings.round_timeout, traffic)) as replies:
        for reply in replies:
            node = cohort.sender(reply)
            try:
                results[node.name] = read_result(reply, node.capacity)
            except BadReplyError as error:
                log(WARNING, "personal models: %s left out: %s", node.name, error)
    log(INFO, "personal models: %d of %d clients answered, %.1f MB were sent",
        len(results), len(asked), traffic.down / 1e6)  # fmt: skip
    return results


def read_result(reply: Message, capacity: int) -> ClientResult:
    """Return the result that a node of that capacity sent.

    Raises
    ------
    BadReplyError
        If it is an error, if the node held no speech out, or if its counts cannot be true.
    """
    if reply.has_error():
        raise BadReplyError(error_reason(reply))
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
