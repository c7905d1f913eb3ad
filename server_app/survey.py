"""After the last round: what each client says of the trained model, cut at its capacity."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.protocol import ARRAYS, CAPACITY, CONFIG, SERVER_ROUND
from efmodel.settings import Settings
from server_app.strategy.cohort import Cohort
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.node import Node
from server_app.strategy.reply import BadReplyError, error_reason

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Survey:
    """Whom to ask about which model.

    Attributes
    ----------
    grid : Grid
        Where the nodes are connected.
    nodes : Sequence of Node
        All nodes that are known; those that are connected are asked.
    settings : Settings
        The run config.
    request : ConfigRecord
        The model description that every request carries.
    model : EarlyExitForCTC
        The trained model.
    """

    grid: Grid
    nodes: Sequence[Node]
    settings: Settings
    request: ConfigRecord
    model: EarlyExitForCTC

    def ask(
        self,
        topic: str,
        kind: str,
        read: Callable[[Message, int], Answer],
        only: Callable[[Node], bool] = lambda _: True,
    ) -> dict[str, Answer]:
        """Return the nodes' answers within ``round-timeout``, by the nodes' names.

        Parameters
        ----------
        topic : str
            Of the lines in the log.
        kind : str
            The message's type.
        read : Callable
            Makes an answer of a reply without an error and the node's capacity. It raises
            ``BadReplyError`` where that cannot be done; the node is then named and left out.
        only : Callable
            Whether a node is asked at all.
        """
        connected = set(self.grid.get_node_ids())
        asked = [node for node in self.nodes if node.id in connected and only(node)]
        arrays = ArrayRecord(self.model.state_dict())
        capacities = {node.capacity for node in asked}
        contents = {capacity: self._content(arrays, capacity) for capacity in capacities}
        messages = {node: Message(contents[node.capacity], node.id, kind) for node in asked}
        cohort, traffic = Cohort(messages, len(asked)), Traffic()
        answers: dict[str, Answer] = {}
        timeout = self.settings.round_timeout
        with closing(exchange(self.grid, messages.values(), timeout, traffic)) as replies:
            for reply in replies:
                node = cohort.sender(reply)
                try:
                    if reply.has_error():
                        raise BadReplyError(error_reason(reply))
                    answers[node.name] = read(reply, node.capacity)
                except BadReplyError as error:
                    log(WARNING, "%s: %s left out: %s", topic, node.name, error)
        log(INFO, "%s: %d of %d clients answered, %.1f MB were sent",
            topic, len(answers), len(asked), traffic.down / 1e6)  # fmt: skip
        return answers

    def _content(self, arrays: ArrayRecord, capacity: int) -> RecordDict:
        """Return what nodes of that capacity are sent; all cuts share the tensors' bytes."""
        owners = self.model.owner_exits()
        cut = ArrayRecord({name: each for name, each in arrays.items() if owners[name] <= capacity})
        about = {CAPACITY: capacity, SERVER_ROUND: self.settings.rounds + 1}
        return RecordDict({ARRAYS: cut, CONFIG: ConfigRecord({**self.request, **about})})
