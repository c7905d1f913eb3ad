"""Secure aggregation against plain aggregation of the same replies, in the same run.

The clients hold the whole model of ``simulation.bench.aggregate``, 31 M parameters in six exits.
They do not train: each returns what it was sent, masked or not. All stages are the real ones; only
the network is missing. Each round runs in a process of its own, and times are processor seconds.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from rich.progress import track

import client_app
from client_app.secure import masked
from client_app.task import Task
from efmodel.protocol import ARRAYS, CAPACITY, CONFIG, METRICS, NUM_EXAMPLES
from server_app.strategy import PartialFedAvg
from server_app.strategy.exchange import tensor_bytes
from simulation.bench.aggregate import CLIENTS, EXITS, fresh, model, owners
from simulation.bench.figure import Figure
from simulation.bench.process import in_own_process, peak_memory_bytes
from simulation.in_process_grid import LocalGrid

EXAMPLES = 50  # of each client


@dataclass
class Clients:
    """Plays the nodes of a round, and measures what they do."""

    secure: bool
    seconds: float = 0.0  # of processor time
    messages: int = 0
    states: dict[int, RecordDict] = field(default_factory=dict)

    def __call__(self, message: Message) -> Message:
        """Return a node's reply."""
        began = time.process_time()
        self.messages += 1
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        state = self.states.setdefault(node, RecordDict())
        context = Context(1, node, {}, state, {"secure-aggregation": self.secure})
        if kind == "query":
            answer = RecordDict({CONFIG: ConfigRecord({CAPACITY: EXITS})})
            reply = Message(answer, reply_to=message)
        elif kind != "train":
            reply = client_app.app(message, context)
        elif self.secure:
            reply = masked(Task.of(message, context), message, context, untrained)
        else:
            reply = untrained(message, context)
        self.seconds += time.process_time() - began
        return reply


def untrained(message: Message, context: Context) -> Message:
    """Return a copy of the tensors that the message holds."""
    arrays, metrics = (
        fresh(message.content.array_records[ARRAYS]),
        MetricRecord({NUM_EXAMPLES: EXAMPLES}),
    )
    return Message(RecordDict({ARRAYS: arrays, METRICS: metrics}), reply_to=message)


def a_round(secure: bool, number: int, lost: int) -> dict[str, float]:
    """Run one round, in which ``lost`` clients never return what they trained; return its costs.

    Returns
    -------
    dict
        ``bytes`` of all messages down and up, processor seconds of the ``server`` and of one
        ``client``, ``messages`` to a client, and the ``peak`` memory of server and one client.
    """
    clients = Clients(secure)
    strategy = PartialFedAvg(
        owners(), min_train_nodes=number, min_available_nodes=number, secure_aggregation=secure
    )
    grid = LocalGrid(clients, range(1, number + 1))
    start, up = model(), 0

    def arriving(messages: list[Message]) -> Iterator[Message]:
        nonlocal up
        for place, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(place)
            reply = clients(message)
            if place >= lost:
                up += tensor_bytes(reply)
                yield reply

    began = time.process_time()
    messages = list(strategy.configure_train(1, start, ConfigRecord(), grid))
    new, _ = strategy.aggregate_train(1, arriving(messages))
    taken = time.process_time() - began
    assert new is not None and len(strategy.report.accepted) == number - lost
    down = sum(map(tensor_bytes, messages))
    return {
        "bytes": down + up + strategy.report.bytes_down + strategy.report.bytes_up,
        "server": taken - clients.seconds,
        "client": clients.seconds / number,
        "messages": clients.messages / number,
        "peak": peak_memory_bytes(),
    }


def run(sizes: tuple[int, ...] = CLIENTS) -> list[Figure]:
    """Measure rounds of each size, in the clear, masked, and masked with one client lost."""
    figures, peaks = [], {}
    for number in track(sizes, "secure aggregation", transient=True):
        plain = in_own_process(a_round, False, number, 0)
        secure = in_own_process(a_round, True, number, 0)
        lossy = in_own_process(a_round, True, number, 1)
        peaks[number] = secure["peak"] / 1e6
        kinds = [
            ("bytes", "bytes of a round", secure, 1e6, "MB"),
            ("server", "server", secure, 1.0, "s"),
            ("server", "server, one client lost after masking", lossy, 1.0, "s"),
            ("client", "each client, without training", secure, 1.0, "s"),
            ("messages", "messages to a client, with the first query", secure, 1.0, ""),
        ]  # fmt: skip
        figures += [
            Figure(
                f"{number} clients: {what}", costs[kind] / scale, plain[kind] / scale, unit, "plain"
            )
            for kind, what, costs, scale, unit in kinds
        ]
    least, most = min(sizes), max(sizes)
    what = f"peak memory of the server and a client, {most} clients"
    return [*figures, Figure(what, peaks[most], peaks[least], "MB", f"with {least} clients")]
