"""Clients of secure aggregation that train by arithmetic; some fail or lie in a stage."""

from collections.abc import Callable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

import client_app
from client_app.secure import masked
from client_app.task import Task
from server_app.strategy import PartialFedAvg
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

STAGES = ("keys", "shares", "check", "train", "unmask")
Fault = Callable[[int, str, Message], None]  # changes a node's reply of a stage, or raises


class Lost(Exception):
    """The client is gone."""


def no_fault(node: int, stage: str, reply: Message) -> None:
    """Do nothing."""


def lost_at(stages: Mapping[int, str]) -> Fault:
    """Return the fault of nodes that are lost at a stage, and at all later ones."""

    def fault(node: int, stage: str, reply: Message) -> None:
        if node in stages and STAGES.index(stage) >= STAGES.index(stages[node]):
            raise Lost

    return fault


class SecureClients:
    """Plays nodes with the real client's stages around ``federation.drifting``.

    Messages pass through Flower's wire format. ``seen`` has all replies that the server got, by
    node and stage.
    """

    def __init__(
        self,
        capacities: Mapping[int, int],
        examples: Callable[[int], float] = lambda node: 10,
        fault: Fault = no_fault,
        **run_config: float,
    ) -> None:
        self.train = drifting(capacities, examples)
        self.fault = fault
        run_config = {"secure-aggregation": True, **run_config}
        self.contexts = {n: Context(1, n, {}, RecordDict(), dict(run_config)) for n in capacities}
        self.seen: dict[tuple[int, str], RecordDict] = {}

    def __call__(self, message: Message) -> Message:
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        if kind == "query":
            return self.train(message)
        message.content = sent(message.content)
        context = self.contexts[node]
        context.state = sent(context.state)  # a device's next process reads what this one leaves
        if kind == "train":
            task = Task.of(message, context)
            reply = masked(task, message, context, lambda m, c: self.train(m))
        else:
            reply = client_app.app(message, context)
        stage = kind.rpartition(".")[2]
        self.fault(node, stage, reply)
        reply.content = self.seen[node, stage] = sent(reply.content)
        return reply


def sent(content: RecordDict) -> RecordDict:
    """Return a message's content as it arrives elsewhere."""
    return recorddict_from_proto(recorddict_to_proto(content))


def start() -> ArrayRecord:
    """Return the model that rounds start from."""
    return tensors("start")


def run_round(
    clients: Callable[[Message], Message], capacities: Mapping[int, int], **options
) -> tuple[PartialFedAvg, ArrayRecord | None]:
    """Run one round over all clients; return the strategy and the new model."""
    options = {"secure_aggregation": True, "node_timeout": 5.0, **options}
    options |= {"min_train_nodes": len(capacities), "min_available_nodes": 1}
    strategy = PartialFedAvg(OWNERS, **options)
    grid = LocalGrid(clients, capacities)
    messages = list(strategy.configure_train(1, start(), ConfigRecord(), grid))
    strategy.asked(messages)
    new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    return strategy, new
