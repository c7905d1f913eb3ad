"""Time and memory of aggregating a round's replies, against Flower's FedAvg.

The model has 31 M parameters in 12 layers and six exits, as in the paper. Each measurement runs in
a fresh process, so that its peak memory can be read.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy
from rich.progress import track

from server_app.strategy import PartialFedAvg
from simulation.bench.figure import Figure
from simulation.in_process_grid import LocalGrid

EXITS, LAYERS = 6, 12
LAYER_SHAPES = [(2048, 256)] * 4 + [(512, 256)] * 3 + [(256,)] * 8  # 2.5 M values
FRONT_SHAPES = [(256, 80, 3), (256, 256, 3), (512, 256)]
HEAD_SHAPE = (256, 256)
CLIENTS = (8, 32, 128)
REPEATS = 5


def names() -> dict[str, tuple[tuple[int, ...], int]]:
    """Return each tensor's shape and owner exit."""
    tensors = {f"front.{i}": (shape, 0) for i, shape in enumerate(FRONT_SHAPES)}
    for layer in range(LAYERS):
        owner = 1 + layer * EXITS // LAYERS
        tensors |= {f"layers.{layer}.{i}": (s, owner) for i, s in enumerate(LAYER_SHAPES)}
    return tensors | {f"exits.{exit}": (HEAD_SHAPE, exit) for exit in range(1, EXITS + 1)}


def model() -> ArrayRecord:
    """Return random tensors of the paper's sizes."""
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, (shape, _) in names().items()}
    return ArrayRecord({n: Array(rng.normal(size=s).astype(np.float32)) for n, s in shapes.items()})


def owners() -> dict[str, int]:
    """Return each tensor's owner exit."""
    return {name: owner for name, (_, owner) in names().items()}


def strategy(kind: str, clients: int) -> Strategy:
    """Return our strategy or Flower's for that many clients."""
    if kind == "flower":
        return FedAvg(min_train_nodes=clients, min_available_nodes=clients)
    return PartialFedAvg(owners(), min_train_nodes=clients, min_available_nodes=clients)


def fresh(record: ArrayRecord) -> ArrayRecord:
    """Return a copy in fresh memory, as if it had come over the network."""
    return ArrayRecord(
        {
            n: Array(dtype=a.dtype, shape=a.shape, stype=a.stype, data=bytes(bytearray(a.data)))
            for n, a in record.items()
        }
    )


def asked(tested: Strategy, clients: int) -> tuple[list[Message], ArrayRecord]:
    """Return a round's messages to full-depth clients, and the tensors that all return."""

    def play(message: Message) -> Message:
        answer = ConfigRecord({"capacity": EXITS})
        return Message(RecordDict({"config": answer}), reply_to=message)

    start, grid = model(), LocalGrid(play, range(1, clients + 1))
    messages = list(tested.configure_train(1, start, ConfigRecord(), grid))
    for number, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = str(number)
    return messages, start


def answer(message: Message, arrays: ArrayRecord) -> Message:
    """Return a reply with these tensors."""
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 10})})
    return Message(content, reply_to=message)


def seconds(kind: str, clients: int) -> float:
    """Return the median seconds to aggregate that many full-depth replies, after a warm-up."""
    taken = []
    for _ in range(1 + REPEATS):
        tested = strategy(kind, clients)
        messages, arrays = asked(tested, clients)
        replies = [answer(message, arrays) for message in messages]
        began = time.perf_counter()
        new, _ = tested.aggregate_train(1, replies)
        taken.append(time.perf_counter() - began)
        assert new is not None

    return statistics.median(taken[1:])


def peak_bytes(kind: str, clients: int) -> float:
    """Return the peak memory of a process in which that many replies arrive one by one."""
    tested = strategy(kind, clients)
    messages, arrays = asked(tested, clients)

    def arriving() -> Iterator[Message]:
        for message in messages:
            yield answer(message, fresh(arrays))

    new, _ = tested.aggregate_train(1, arriving())
    assert new is not None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def run() -> list[Figure]:
    """Measure all."""
    figures = []
    flower = "Flower's FedAvg"
    for clients in track(CLIENTS, "aggregate: seconds", transient=True):
        ours, theirs = (_measured("seconds", kind, clients) for kind in ("ours", "flower"))
        figures.append(Figure(f"aggregating {clients} replies, checked", ours, theirs, "s", flower))
    peaks = {}
    for clients in track(CLIENTS, "aggregate: memory", transient=True):
        peaks[clients] = _measured("peak_bytes", "ours", clients) / 1e6
        theirs = _measured("peak_bytes", "flower", clients) / 1e6
        what = f"server's peak memory, {clients} replies"
        figures.append(Figure(what, peaks[clients], theirs, "MB", flower))
    most, least = CLIENTS[-1], CLIENTS[0]
    what = f"server's peak memory, {most} replies"
    figures.append(Figure(what, peaks[most], peaks[least], "MB", f"ours with {least}"))
    return figures


def _measured(what: str, kind: str, clients: int) -> float:
    command = [sys.executable, "-m", "simulation.bench.aggregate", what, kind, str(clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    measure = {"seconds": seconds, "peak_bytes": peak_bytes}[sys.argv[1]]
    print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
