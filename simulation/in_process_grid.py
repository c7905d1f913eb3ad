"""A Flower Grid in this process: every message goes to a function that plays the node.

For tests and benchmarks, also of a strategy of one's own: no SuperLink, no Ray, no waiting.
"""

from collections.abc import Callable, Iterable
from uuid import uuid4

from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # a Message wants them set

Play = Callable[[Message], Message | None]  # None: no reply, ever


class LocalGrid(Grid):
    """Delivers at once; keeps what was sent; a node that raises answers with an error.

    Parameters
    ----------
    play : Play
        What a node does with a message; ``message.metadata.dst_node_id`` says which node it is.
    node_ids : Iterable[int]
        Who is connected; ``node_ids`` may be changed between rounds.
    """

    def __init__(self, play: Play, node_ids: Iterable[int]) -> None:
        self.play = play
        self.node_ids = list(node_ids)
        self.sent: list[Message] = []
        self.replies: dict[str, Message] = {}

    def set_run(self, run) -> None:
        """Do nothing: there is no run."""

    @property
    def run(self):
        """No run."""
        return None

    def create_message(self, *args, **kwargs):
        """Refuse: messages are made by their class."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return who is connected."""
        return self.node_ids

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Deliver the messages; the replies wait to be pulled."""
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
        """Return the replies to these messages that are there, once."""
        return [self.replies.pop(id) for id in list(message_ids) if id in self.replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Deliver the messages and return the replies."""
        return self.pull_messages(self.push_messages(messages))
