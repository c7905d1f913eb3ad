"""Sending a round's messages and taking in the replies one by one, counting bytes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

FIRST_POLL = 0.05  # seconds; simulated clients answer fast
SLOWEST_POLL = 3.0  # seconds; devices take minutes, and the server has better things to do
PULLED = 4  # replies asked for at a time: no more are in memory, however many are ready


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


def exchange(
    grid: Grid, messages: Iterable[Message], timeout: float, traffic: Traffic
) -> Iterator[Message]:
    """Send the messages and yield each reply as it arrives, until all came or ``timeout`` s passed.

    Polls ever more slowly while nothing comes, at once again when something does. Whoever has
    enough replies stops asking for more.
    """
    messages = list(messages)
    traffic.sent = len(messages)
    traffic.down = sum(tensor_bytes(message) for message in messages)
    deadline = time.monotonic() + timeout
    # In the order of sending: replies that are all there are summed in the same order every time.
    waiting = dict.fromkeys(grid.push_messages(messages))
    del messages
    pause = FIRST_POLL
    while waiting and time.monotonic() < deadline:
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
            pause = min(pause * 1.3, SLOWEST_POLL)


def batched(ids: list[str], size: int) -> Iterator[list[str]]:
    """Yield the ids, ``size`` at a time."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
