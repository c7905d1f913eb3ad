"""Who trains in a round, and what each node is sent: queries, sampling, messages."""

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.protocol import CAPACITY, CONFIG, NAME, PROTOCOL, PROTOCOL_KEY, TAG, read_texts
from efmodel.speech import alphabet
from server_app.strategy.exchange import Traffic, exchange, tensor_bytes
from server_app.strategy.node import Node
from server_app.strategy.reply import error_reason

POLL_SECONDS = 0.5  # between checks of which nodes are connected
LOG_SECONDS = 10.0  # between log lines while waiting for nodes


class TooFewNodesError(RuntimeError):
    """Too few nodes connected in time."""


class Nodes:
    """The nodes that the server has queried: each one once, until its capacity changes.

    Parameters
    ----------
    num_exits : int
        Exits of the model, hence the highest capacity that a node may report.
    timeout : float
        Seconds to wait for enough nodes, and for the answers to queries.
    selected : Callable[[Node], bool]
        Whether a node may take part.

    Attributes
    ----------
    met : dict of int to Node
        The nodes by id.
    texts : dict of int to TextCount
        What the nodes' last answers say of their texts, by id.
    """

    def __init__(self, num_exits: int, timeout: float, selected: Callable[[Node], bool]) -> None:
        self.num_exits = num_exits
        self.timeout = timeout
        self.selected = selected
        self.met: dict[int, Node] = {}
        self.texts: dict[int, alphabet.TextCount] = {}

    def gather(
        self, grid: Grid, wanted: int, config: ConfigRecord
    ) -> tuple[list[Node], dict[str, str]]:
        """Query new nodes; return those that may train, and why queries of others failed.

        Waits until ``wanted`` nodes are connected. A node that ``selected`` rejects does not count;
        one whose query failed does, since waiting would not help. It is queried again next round.

        Returns
        -------
        ready : list of Node
            The connected nodes that may train.
        failed : dict of str to str
            ``{node id: reason}``.

        Raises
        ------
        TooFewNodesError
            If too few nodes connect within ``timeout`` seconds.
        """
        start = time.monotonic()
        last_line = start - LOG_SECONDS
        failed: dict[int, str] = {}
        while True:
            ids = set(grid.get_node_ids())
            failed |= self._meet(grid, ids, ids - self.met.keys() - failed.keys(), config)
            ready = [self.met[id] for id in ids & self.met.keys() if self.selected(self.met[id])]
            if len(ready) + len(ids & failed.keys()) >= wanted:
                return ready, {str(id): reason for id, reason in failed.items()}
            now = time.monotonic()
            count = f"{len(ready)} of {wanted} nodes ({len(ids)} connected)"
            if now - start > self.timeout:
                raise TooFewNodesError(f"min-nodes: found {count} after {self.timeout:.0f} s")
            if now - last_line >= LOG_SECONDS:
                log(INFO, "waiting for nodes: found %s", count)
                last_line = now
            time.sleep(POLL_SECONDS)

    @property
    def to_ask(self) -> bool:
        """Whether no node was queried yet, or one that was is to be queried again."""
        return not self.met or not self.texts.keys() <= self.met.keys()

    def forget(self, id: int) -> None:
        """Query a node again before the next round: its capacity may have changed."""
        self.met.pop(id, None)

    def update(self, node: Node, depth: int, reported: object) -> None:
        """Lower a node's capacity after a round.

        Parameters
        ----------
        node : Node
            As it was asked.
        depth : int
            The deepest exit that it trained, which becomes its capacity.
        reported : object
            The capacity that its reply reports. The node is queried again if that has changed.
        """
        if depth < node.capacity:
            self.met[node.id] = replace(node, capacity=max(1, depth))
            text = "%s reported capacity %d but trained exit %d; its capacity is now %d"
            log(WARNING, text, node.name, node.capacity, depth, max(1, depth))
        if reported != node.capacity:
            self.forget(node.id)

    def _meet(
        self, grid: Grid, connected: set[int], new_ids: set[int], config: ConfigRecord
    ) -> dict[int, str]:
        """Query new nodes; return why each failed query failed."""
        if not new_ids:
            return {}
        content = RecordDict({CONFIG: config})
        messages = [
            Message(content, dst_node_id=id, message_type=MessageType.QUERY) for id in new_ids
        ]
        failed = {id: f"no answer within {self.timeout:.0f} s" for id in new_ids}
        asked: dict[str, int] = {}
        for reply in exchange(grid, messages, self.timeout, Traffic()):
            # The error reply for a lost node comes from the SuperLink, so the sender is read from
            # the message that a reply answers. Messages have ids only once they are sent.
            answered = reply.metadata.reply_to_message_id
            if answered not in asked:
                asked = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
            id = asked.get(answered, reply.metadata.src_node_id)
            try:
                self.met[id] = self._with_unique_name(self._read(id, reply), connected)
                del failed[id]
            except (ValueError, KeyError) as error:
                failed[id] = str(error)
        self._warn_of_lost_letters(new_ids - failed.keys())
        for id, reason in failed.items():
            log(WARNING, "node %d left out, its query failed: %s", id, reason)
        return failed

    def _warn_of_lost_letters(self, ids: set[int]) -> None:
        """Log once what the vocabulary loses of the texts of these nodes, if it is much."""
        counts = [self.texts[id] for id in ids & self.texts.keys()]
        if line := alphabet.warning(sum(counts, alphabet.TextCount())):
            log(WARNING, "%s (%d nodes)", line, len(counts))

    def _with_unique_name(self, node: Node, connected: set[int]) -> Node:
        """Return the node with its id in its name if a connected node has the same name.

        A disconnected node releases its name: the device may come back under a new id, as in a
        resumed simulation or without a key.
        """
        for other in [other for other in self.met.values() if other.name == node.name]:
            if other.id in connected and other.id != node.id:
                return replace(node, name=f"{node.name} ({node.id})")
            self.forget(other.id)  # queried again should it come back after all
        return node

    def _read(self, id: int, reply: Message) -> Node:
        if reply.has_error():
            raise ValueError(error_reason(reply))
        record = reply.content.config_records.get(CONFIG, ConfigRecord())
        if (
            record.get(PROTOCOL_KEY, PROTOCOL) != PROTOCOL
        ):  # a client of the user's own may send none
            raise ValueError(
                f"protocol: found {record[PROTOCOL_KEY]!r} on the node, wanted {PROTOCOL} as on "
                "the server: install the same version of ef-asr on both"
            )
        capacity = record.get(CAPACITY)
        if type(capacity) is not int or not 1 <= capacity <= self.num_exits:
            raise ValueError(f"{CAPACITY}: found {capacity!r}, wanted 1 to {self.num_exits}")
        if counted := read_texts(record):
            self.texts[id] = counted
        return Node(id, str(record.get(NAME, id)), capacity, str(record.get(TAG, "")))


def sample(nodes: list[Node], size: int, seed: str) -> list[Node]:
    """Return ``size`` of the nodes, or all of them; the same ones for the same seed.

    Nodes are drawn in the order of their names, since their ids differ in every simulation.
    """
    ordered = sorted(nodes, key=lambda node: (node.name, node.id))
    return random.Random(seed).sample(ordered, min(size, len(ordered)))


def draw(ready: list[Node], wanted: int, over_sample: float, seed: str) -> list[Node]:
    """Return the nodes to ask so that ``wanted`` replies come, in the order of sending.

    Deep clients go first: where clients wait for a processor, the longest are not left for the
    end. With over-sampling the first replies close the round, so the order stays random.
    """
    size = math.ceil(wanted * over_sample)
    nodes = sample(ready, size, seed)
    return nodes if size != wanted else sorted(nodes, key=lambda node: -node.capacity)


def flip_coins(ready: list[Node], share: float) -> list[Node]:
    """Return each node with the probability ``share``, in the order of sending (Poisson sampling).

    A cohort that others can predict hides nobody, so there is no seed.
    """
    coins = random.SystemRandom()
    return sorted((n for n in ready if coins.random() < share), key=lambda node: -node.capacity)


class FrozenTensors:
    """Which nodes hold the frozen tensors of a run, and under which name.

    Parameters
    ----------
    names : Iterable[str]
        The tensors that nobody trains. A node is sent them once and keeps them on its disk.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self._digest = ""
        self._holders: dict[int, int] = {}  # node id: the capacity whose tensors it holds

    def key(self, sent: ArrayRecord, capacity: int) -> str:
        """Return the name under which a node of that capacity keeps its frozen tensors."""
        if not self._digest:
            from efmodel.model.frozen import digest

            self._digest = digest(sent, self.names)
        return f"{self._digest}-{capacity}"

    def held_by(self, node: Node) -> bool:
        """Return whether the node holds the tensors that its capacity needs."""
        return self._holders.get(node.id) == node.capacity

    def received_by(self, node: Node) -> None:
        """Note that the node used what it was sent, and so holds its tensors."""
        self._holders[node.id] = node.capacity

    def lost_by(self, node: Node) -> None:
        """Note that the node may have lost its tensors: it is sent all of them next time."""
        self._holders.pop(node.id, None)


class Cohort:
    """The nodes asked in one round, and the message sent to each.

    Parameters
    ----------
    messages : dict[Node, Message]
        Nodes in the order of sending; in a relay those of its last step.
    wanted : int
        Replies that close the round.
    """

    def __init__(self, messages: dict[Node, Message], wanted: int) -> None:
        self.messages = messages
        self.wanted = wanted
        self.bytes_sent = {node: tensor_bytes(message) for node, message in messages.items()}
        self._by_message: dict[str, Node] = {}

    def extend(self, messages: dict[Node, Message]) -> None:
        """Add nodes that are asked later in the round; a reply of each is wanted.

        The messages so far, which were sent, are dropped: each may hold a model of its own.
        """
        self._note_ids()
        self.messages = messages
        self.bytes_sent |= {node: tensor_bytes(message) for node, message in messages.items()}
        self.wanted += len(messages)

    def sending(self, messages: list[Message], met: Mapping[int, Node]) -> "Cohort":
        """Return the cohort of other messages to nodes that the server has met."""
        asked = {
            met[id]: message for message in messages if (id := message.metadata.dst_node_id) in met
        }
        all_wanted = self.wanted == len(self.messages)  # no over-sampling
        return Cohort(asked, len(asked) if all_wanted else min(self.wanted, len(asked)))

    def sender(self, reply: Message) -> Node:
        """Return the node that a reply comes from; one of capacity 0 if it was not asked.

        The error reply for a lost node comes from the SuperLink, so the node is found by the
        message that the reply answers. Messages have ids only once they are sent.
        """
        answered, id = reply.metadata.reply_to_message_id, reply.metadata.src_node_id
        if answered not in self._by_message:
            self._note_ids()
        return self._by_message.get(answered, Node(id, str(id), 0))

    def _note_ids(self) -> None:
        self._by_message |= {m.metadata.message_id: node for node, m in self.messages.items()}
