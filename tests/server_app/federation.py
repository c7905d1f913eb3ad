"""A federation of clients that only do arithmetic, in this process: for strategies' tests."""

import zlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from simulation.in_process_grid import LocalGrid

OWNERS = {"front": 0, "one": 1, "two": 2, "three": 3}
SHAPE = (2, 3)


def tensors(seed: object, names: Iterable[str] = OWNERS) -> ArrayRecord:
    """Return random tensors; the same for the same seed and name."""
    values = {}
    for name in names:
        rng = np.random.default_rng([zlib.crc32(str(seed).encode()), *name.encode()])
        values[name] = Array(rng.normal(size=SHAPE).astype(np.float32))
    return ArrayRecord(values)


def drifting(capacities: Mapping[int, int], examples: Callable[[int], float] = lambda node: 10):
    """Return what a node does: it moves each tensor by a random step of its own."""

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": capacities[node]})
            return Message(RecordDict({"config": answer}), reply_to=message)
        received = message.content["arrays"]
        server_round = message.content["config"]["server-round"]
        moved = {}
        for place, (name, array) in enumerate(received.items()):
            rng = np.random.default_rng([node, server_round, place])
            step = 0.1 * rng.normal(size=array.shape).astype(np.float32)
            moved[name] = Array(array.numpy() + step)
        metrics = MetricRecord({"num-examples": examples(node)})
        content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
        return Message(content, reply_to=message)

    return play


def run_rounds(
    strategy: Strategy, play, nodes: Iterable[int], start: ArrayRecord, rounds: int, first: int = 1
) -> ArrayRecord:
    """Run rounds as Flower's own ``start`` does, and return the last model."""
    grid = LocalGrid(play, nodes)
    arrays = start
    for server_round in range(first, first + rounds):
        messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
        new, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
        arrays = new or arrays
    return arrays
