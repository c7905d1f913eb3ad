"""The nodes that the server has met: their capacities, and who takes part in a round."""

import random
import time
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from server_app.strategy.validation import error_reason

POLL_SECONDS = 0.5  # between looks at which nodes are connected
LOG_SECONDS = 10.0  # between lines while waiting for them


class TooFewNodesError(RuntimeError):
    """Fewer nodes connected than the round needs, for longer than it may wait."""


@dataclass(frozen=True)
class Node:
    """What a node answered to its query."""

    id: int
    name: str
    capacity: int


class Nodes:
    """Asks each node once what it can do, and picks cohorts.

    Parameters
    ----------
    num_exits : int
        Exits of the model; a capacity beyond is an error of the node.
    query_timeout : float
        Seconds to wait for the answers to a query.
    """

    def __init__(self, num_exits: int, query_timeout: float) -> None:
        self.num_exits = num_exits
        self.query_timeout = query_timeout
        self.met: dict[int, Node] = {}

    def wait_for(self, grid: Grid, wanted: int, timeout: float) -> list[int]:
        """Return the connected nodes' ids once there are ``wanted`` of them.

        Raises
        ------
        TooFewNodesError
            If they are not there within ``timeout`` seconds.
        """
        began = time.monotonic()
        last_line = began - LOG_SECONDS
        while len(ids := list(grid.get_node_ids())) < wanted:
            now = time.monotonic()
            if now - began > timeout:
                raise TooFewNodesError(
                    f"min-nodes: found {len(ids)} connected nodes after {timeout:.0f} s, "
                    f"wanted {wanted}"
                )
            if now - last_line >= LOG_SECONDS:
                log(INFO, "waiting for nodes: %d of %d connected", len(ids), wanted)
                last_line = now
            time.sleep(POLL_SECONDS)
        return ids

    def meet(self, grid: Grid, ids: list[int], config: ConfigRecord) -> dict[str, str]:
        """Query those not met yet; return ``{node: reason}`` of those that could not answer."""
        strangers = [node for node in ids if node not in self.met]
        if not strangers:
            return {}
        content = RecordDict({"config": config})
        messages = [
            Message(content, dst_node_id=node, message_type=MessageType.QUERY) for node in strangers
        ]
        replies = list(grid.send_and_receive(messages, timeout=self.query_timeout))
        asked = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        failed = {node: f"no answer within {self.query_timeout:.0f} s" for node in strangers}
        for reply in replies:
            node = asked.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)
            try:
                self.met[node] = self._read(node, reply)
                del failed[node]
            except (ValueError, KeyError) as error:
                failed[node] = str(error)
        for node, reason in failed.items():
            log(WARNING, "node %d left out, its query failed: %s", node, reason)
        return {str(node): reason for node, reason in failed.items()}

    def _read(self, node: int, reply: Message) -> Node:
        if reply.has_error():
            raise ValueError(error_reason(reply))
        record = reply.content.config_records.get("config", ConfigRecord())
        capacity = record.get("capacity")
        if type(capacity) is not int or not 1 <= capacity <= self.num_exits:
            raise ValueError(f"capacity: found {capacity!r}, wanted 1 to {self.num_exits}")
        return Node(node, str(record.get("name", node)), capacity)

    def sample(self, ids: list[int], size: int, seed: str) -> list[Node]:
        """Return ``size`` of the met nodes among ``ids``, or all; the same for the same seed.

        Names, not ids, decide the order they are drawn from: a simulation draws new ids every run.
        """
        known = sorted((self.met[i] for i in ids if i in self.met), key=lambda n: (n.name, n.id))
        return random.Random(seed).sample(known, min(size, len(known)))
