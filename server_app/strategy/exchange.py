"""Send a round's messages and receive the replies one by one, counting bytes."""

import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from flwr.app import Message, MessageType
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid

FIRST_POLL = 0.05  # seconds; simulated clients reply fast
SLOWEST_POLL = 3.0  # seconds; devices take minutes
PULLED = 4  # replies fetched at a time, hence the most that are in memory
# Waiting messages per core in a simulation. Flower's simulation engine looks at each of them for
# each node ten times a second, which takes 1.6 s for 235 messages and 2,351 nodes. Training takes
# longer than sending the next message; a query is over at once.
SIMULATED = {MessageType.TRAIN: 2, MessageType.QUERY: 32}


@dataclass
class Traffic:
    """Messages of a round, and the bytes of tensors in them."""

    down: int = 0  # bytes sent
    up: int = 0  # bytes received
    sent: int = 0  # messages
    answered: int = 0  # replies without an error
    waiting: int = 0  # messages without a reply now


def tensor_bytes(message: Message) -> int:
    """Return the bytes of all tensors in a message; 0 for an error."""
    if message.has_error():
        return 0
    records = message.content.array_records.values()
    return sum(len(array.data) for record in records for array in record.values())


@dataclass(frozen=True)
class Pace:
    """How fast messages are sent: to devices at once, to simulated clients as they finish."""

    outstanding: int = sys.maxsize  # most messages that wait for a reply
    slowest_poll: float = SLOWEST_POLL  # seconds

    @classmethod
    def of(cls, grid: Grid, messages: list[Message]) -> "Pace":
        """Return the pace for these messages on that grid."""
        if not messages or not isinstance(grid, InMemoryGrid):
            return cls()
        category, _, _ = messages[0].metadata.message_type.partition(".")
        per_core = SIMULATED.get(category, SIMULATED[MessageType.TRAIN])
        return cls(per_core * simulated_cores(), FIRST_POLL)


def simulated_cores() -> int:
    """Return the number of cores that simulated clients train on: those of Ray's cluster."""
    import ray  # not needed on a real server

    cores = ray.cluster_resources().get("CPU", 0) if ray.is_initialized() else 0
    return int(cores) or len(os.sched_getaffinity(0))


def exchange(
    grid: Grid, messages: Iterable[Message], timeout: float, traffic: Traffic
) -> Generator[Message]:
    """Send the messages and yield each reply as it arrives, for at most ``timeout`` seconds.

    The pause between polls grows while no reply comes. A caller that has enough replies stops
    iterating; messages that a simulation has not been sent by then are never sent.
    """
    messages = list(messages)
    pace = Pace.of(grid, messages)
    traffic.sent += len(messages)
    deadline = time.monotonic() + timeout
    # In the order of sending, so that replies that are all ready come in the same order every time.
    waiting: dict[str, None] = {}
    unsent = iter(messages)
    del messages
    pause = FIRST_POLL
    try:
        while time.monotonic() < deadline:
            next_ones = list(islice(unsent, pace.outstanding - len(waiting)))
            traffic.down += sum(tensor_bytes(message) for message in next_ones)
            waiting |= dict.fromkeys(grid.push_messages(next_ones) if next_ones else ())
            if not waiting and not next_ones:
                return
            before = traffic.waiting = len(waiting)
            for ids in batched(list(waiting), PULLED):
                for reply in grid.pull_messages(ids):
                    waiting.pop(reply.metadata.reply_to_message_id, None)
                    traffic.waiting = len(waiting)
                    traffic.up += tensor_bytes(reply)
                    traffic.answered += not reply.has_error()
                    yield reply
            if len(waiting) < before:
                pause = FIRST_POLL
            else:
                time.sleep(pause)
                pause = min(pause * 1.3, pace.slowest_poll)
    finally:
        traffic.waiting = 0  # the round is over: nobody waits for these replies


def batched(ids: list[str], size: int) -> Iterator[list[str]]:
    """Yield the ids, ``size`` at a time."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
