"""A Flower Grid in this process: every message goes to a function that plays the node.

For tests and benchmarks of strategies: it needs no SuperLink, no Ray, and no waiting.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # a Message needs them

Play = Callable[[Message], Message | None]  # None: it never replies


class LocalGrid(Grid):
    """Delivers messages at once and keeps them in ``sent``; a node that raises sends an error.

    Parameters
    ----------
    play : Play
        Returns a node's reply to a message; ``message.metadata.dst_node_id`` is the node.
    node_ids : Iterable[int]
        The connected nodes. The attribute may be changed between rounds.
    """

    def __init__(self, play: Play, node_ids: Iterable[int]) -> None:
        self.play = play
        self.node_ids = list(node_ids)
        self.sent: list[Message] = []
        self.replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Do nothing: there is no run."""

    @property
    def run(self) -> Run:
        """Refuse: there is no run."""
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Refuse: create a ``Message`` instead."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return the connected nodes."""
        return self.node_ids

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Deliver the messages; their replies wait to be pulled."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self.sent.append(message)
            ids.append(message.metadata.message_id)
            try:
                reply = self.play(message)
            except Exception as error:  # as Flower does for a ClientApp that raises
                reply = Message(Error(code=0, reason=repr(error)), reply_to=message)
            if reply is not None:
                self.replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to these messages that are ready; each one once."""
        return [self.replies.pop(id) for id in list(message_ids) if id in self.replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Deliver the messages and return the replies."""
        return self.pull_messages(self.push_messages(messages))
