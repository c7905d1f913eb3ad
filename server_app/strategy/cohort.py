"""The nodes that the server has met: their capacities, and who takes part in a round."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from logging import INFO, WARNING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.protocol import PROTOCOL, PROTOCOL_KEY
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.node import Node
from server_app.strategy.reply import error_reason

POLL_SECONDS = 0.5  # between looks at which nodes are connected
LOG_SECONDS = 10.0  # between lines while waiting for them


class TooFewNodesError(RuntimeError):
    """Fewer nodes connected than the round needs, for longer than it may wait."""


class Nodes:
    """Asks each node what it can do, once until that changes, and picks cohorts.

    Parameters
    ----------
    num_exits : int
        Exits of the model; a capacity beyond is an error of the node.
    timeout : float
        Seconds to wait for enough nodes, and for the answers to a query.
    selected : Callable[[Node], bool]
        Whether a node may take part.
    """

    def __init__(self, num_exits: int, timeout: float, selected: Callable[[Node], bool]) -> None:
        self.num_exits = num_exits
        self.timeout = timeout
        self.selected = selected
        self.met: dict[int, Node] = {}

    def gather(
        self, grid: Grid, wanted: int, config: ConfigRecord
    ) -> tuple[list[Node], dict[str, str]]:
        """Return the nodes that may train, and why others could not be asked.

        Waits until ``wanted`` nodes are there, not counting those that ``selected`` turns away. A
        node whose query failed counts: waiting would not mend it. It is asked again next time.

        Raises
        ------
        TooFewNodesError
            If they are not there in time.
        """
        began = time.monotonic()
        last_line = began - LOG_SECONDS
        failed: dict[int, str] = {}
        while True:
            ids = set(grid.get_node_ids())
            failed |= self._meet(grid, ids, ids - self.met.keys() - failed.keys(), config)
            ready = [self.met[id] for id in ids & self.met.keys() if self.selected(self.met[id])]
            if len(ready) + len(ids & failed.keys()) >= wanted:
                return ready, {str(id): reason for id, reason in failed.items()}
            now = time.monotonic()
            found = f"{len(ready)} of {wanted} nodes ({len(ids)} connected)"
            if now - began > self.timeout:
                raise TooFewNodesError(f"min-nodes: found {found} after {self.timeout:.0f} s")
            if now - last_line >= LOG_SECONDS:
                log(INFO, "waiting for nodes: found %s", found)
                last_line = now
            time.sleep(POLL_SECONDS)

    def forget(self, id: int) -> None:
        """Ask a node again before the next round: its capacity is not what it was."""
        self.met.pop(id, None)

    def _meet(
        self, grid: Grid, connected: set[int], strangers: set[int], config: ConfigRecord
    ) -> dict[int, str]:
        """Query nodes not met yet; return why those that could not answer did not."""
        if not strangers:
            return {}
        content = RecordDict({"config": config})
        messages = [
            Message(content, dst_node_id=id, message_type=MessageType.QUERY) for id in strangers
        ]
        failed = {id: f"no answer within {self.timeout:.0f} s" for id in strangers}
        asked: dict[str, int] = {}
        for reply in exchange(grid, messages, self.timeout, Traffic()):
            # The error reply for a lost node comes from the SuperLink itself, so what a reply
            # answers tells who it is of; messages have their ids once they were sent.
            answered = reply.metadata.reply_to_message_id
            if answered not in asked:
                asked = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
            id = asked.get(answered, reply.metadata.src_node_id)
            try:
                self.met[id] = self._unlike_others(self._read(id, reply), connected)
                del failed[id]
            except (ValueError, KeyError) as error:
                failed[id] = str(error)
        for id, reason in failed.items():
            log(WARNING, "node %d left out, its query failed: %s", id, reason)
        return failed

    def _unlike_others(self, node: Node, connected: set[int]) -> Node:
        """Tell a node from another one here that has the same name: devices name themselves.

        One that is gone gives its name up, for it may be the same device: a simulation that is
        resumed, or a device without a key, comes back under a new id.
        """
        for other in [each for each in self.met.values() if each.name == node.name]:
            if other.id in connected and other.id != node.id:
                return replace(node, name=f"{node.name} ({node.id})")
            self.forget(other.id)  # asked again, and told apart, should it come back after all
        return node

    def _read(self, id: int, reply: Message) -> Node:
        if reply.has_error():
            raise ValueError(error_reason(reply))
        record = reply.content.config_records.get("config", ConfigRecord())
        if record.get(PROTOCOL_KEY, PROTOCOL) != PROTOCOL:  # a client of one's own may send none
            raise ValueError(
                f"protocol: found {record[PROTOCOL_KEY]!r} on the node, wanted {PROTOCOL} as on "
                "the server: install the same version of ef-asr on both"
            )
        capacity = record.get("capacity")
        if type(capacity) is not int or not 1 <= capacity <= self.num_exits:
            raise ValueError(f"capacity: found {capacity!r}, wanted 1 to {self.num_exits}")
        return Node(id, str(record.get("name", id)), capacity, str(record.get("tag", "")))


def sample(nodes: list[Node], size: int, seed: str) -> list[Node]:
    """Return ``size`` of the nodes, or all; the same for the same seed.

    Names, not ids, decide the order they are drawn from: a simulation draws new ids every run.
    """
    ordered = sorted(nodes, key=lambda node: (node.name, node.id))
    return random.Random(seed).sample(ordered, min(size, len(ordered)))
