"""Sending a round's messages and taking in the replies one by one, counting bytes."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from flwr.app import Message, MessageType
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid

FIRST_POLL = 0.05  # seconds; simulated clients answer fast
SLOWEST_POLL = 3.0  # seconds; devices take minutes, and the server has better things to do
PULLED = 4  # replies asked for at a time: no more are in memory, however many are ready
# Messages for each of Ray's cores that wait in Flower's simulation engine, by what they ask: ten
# times a second it looks at every one of them for every node, 1.6 s for 235 messages and 2,351
# nodes. A client that trains is busy for longer than it takes to send the next; a query is over at
# once.
SIMULATED = {MessageType.TRAIN: 2, MessageType.QUERY: 32}


@dataclass
class Traffic:
    """Bytes of tensors that went to the nodes and came back."""

    down: int = 0
    up: int = 0
    sent: int = 0  # messages
    answered: int = 0  # replies without an error


def tensor_bytes(message: Message) -> int:
    """Return the bytes of all tensors in a message; an error carries none."""
    if message.has_error():
        return 0
    records = message.content.array_records.values()
    return sum(len(array.data) for record in records for array in record.values())


@dataclass(frozen=True)
class Pace:
    """How a round's messages go out: to devices all at once, to simulated clients as they work."""

    outstanding: int = sys.maxsize  # messages sent and not answered, at most
    slowest_poll: float = SLOWEST_POLL  # seconds

    @classmethod
    def of(cls, grid: Grid, messages: list[Message]) -> "Pace":
        """Return the pace for these messages on that grid."""
        if not messages or not isinstance(grid, InMemoryGrid):
            return cls()
        each = SIMULATED.get(messages[0].metadata.message_type, SIMULATED[MessageType.TRAIN])
        return cls(each * simulated_cores(), FIRST_POLL)


def simulated_cores() -> int:
    """Return the cores that simulated clients train on: Ray's, on however many machines."""
    import ray  # a real server goes without it

    found = ray.cluster_resources().get("CPU", 0) if ray.is_initialized() else 0
    return int(found) or len(os.sched_getaffinity(0))


def exchange(
    grid: Grid, messages: Iterable[Message], timeout: float, traffic: Traffic
) -> Iterator[Message]:
    """Send the messages and yield each reply as it arrives, until all came or ``timeout`` s passed.

    Polls ever more slowly while nothing comes, at once again when something does. Whoever has
    enough replies stops asking for more; what a simulation was not sent by then never is.
    """
    messages = list(messages)
    pace = Pace.of(grid, messages)
    traffic.sent = len(messages)
    deadline = time.monotonic() + timeout
    # In the order of sending: replies that are all there are summed in the same order every time.
    waiting: dict[str, None] = {}
    unsent = iter(messages)
    del messages
    pause = FIRST_POLL
    while time.monotonic() < deadline:
        next_ones = list(islice(unsent, pace.outstanding - len(waiting)))
        traffic.down += sum(tensor_bytes(message) for message in next_ones)
        waiting |= dict.fromkeys(grid.push_messages(next_ones) if next_ones else ())
        if not waiting and not next_ones:
            return
        before = len(waiting)
        for some in batched(list(waiting), PULLED):
            for reply in grid.pull_messages(some):
                waiting.pop(reply.metadata.reply_to_message_id, None)
                traffic.up += tensor_bytes(reply)
                traffic.answered += not reply.has_error()
                yield reply
        if len(waiting) < before:
            pause = FIRST_POLL
        else:
            time.sleep(pause)
            pause = min(pause * 1.3, pace.slowest_poll)


def batched(ids: list[str], size: int) -> Iterator[list[str]]:
    """Yield the ids, ``size`` at a time."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
