"""How many messages are out at a time, and in which order they go."""

import os

import pytest
import ray
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.superlink.grid import InMemoryGrid

from server_app.strategy import PartialFedAvg
from server_app.strategy.exchange import SIMULATED, Traffic, exchange, simulated_cores, tensor_bytes
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

CORES = len(os.sched_getaffinity(0))


class Watched(LocalGrid):
    """Notes how many messages are out after each time that some are sent."""

    def __init__(self, play, node_ids) -> None:
        super().__init__(play, node_ids)
        self.most_out = 0

    def push_messages(self, messages):
        ids = super().push_messages(messages)
        self.most_out = max(self.most_out, len(self.replies))
        return ids


class WatchedSimulation(Watched, InMemoryGrid):
    """The same, taken for Flower's simulation."""


def answered(grid: Watched, kind: str, nodes: int) -> tuple[list[int], Traffic]:
    content = RecordDict({"arrays": tensors("start"), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, dst_node_id=n, message_type=kind) for n in range(1, nodes + 1)]
    traffic = Traffic()
    replies = exchange(grid, messages, timeout=60, traffic=traffic)
    return [reply.metadata.src_node_id for reply in replies], traffic


@pytest.mark.parametrize("kind", ["train", "query"])
def test_a_simulation_is_sent_messages_as_it_answers(kind):
    nodes = 3 * SIMULATED[kind] * CORES + 1
    capacities = dict.fromkeys(range(1, nodes + 1), 3)
    grid = WatchedSimulation(drifting(capacities), capacities)
    senders, traffic = answered(grid, kind, nodes)
    assert sorted(senders) == list(capacities)
    assert grid.most_out == SIMULATED[kind] * CORES
    assert traffic.sent == traffic.answered == nodes
    assert traffic.down == sum(map(tensor_bytes, grid.sent))


@pytest.mark.programs
def test_a_simulation_s_cores_are_those_of_its_ray_cluster():
    assert simulated_cores() == CORES  # it has not started yet
    ray.init(num_cpus=3 * CORES, include_dashboard=False, log_to_driver=False)
    try:
        assert simulated_cores() == 3 * CORES
    finally:
        ray.shutdown()


def test_devices_are_sent_all_messages_at_once():
    capacities = dict.fromkeys(range(1, 101), 3)
    grid = Watched(drifting(capacities), capacities)
    assert len(answered(grid, "train", 100)[0]) == grid.most_out == 100


def test_a_node_that_never_answers_holds_up_no_other():
    capacities = dict.fromkeys(range(1, 41), 3)
    play = drifting(capacities)
    grid = WatchedSimulation(lambda m: None if m.metadata.dst_node_id == 1 else play(m), capacities)
    content = RecordDict({"arrays": tensors("start"), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, dst_node_id=n, message_type="train") for n in capacities]
    replies = list(exchange(grid, messages, timeout=2, traffic=Traffic()))
    assert len(replies) == 39


def cohort(over_sample: float) -> list[int]:
    capacities = {node: 1 + node % 3 for node in range(1, 19)}
    strategy = PartialFedAvg(
        OWNERS, fraction_train=0.5, min_available_nodes=18, over_sample=over_sample
    )
    grid = LocalGrid(drifting(capacities), capacities)
    start: ArrayRecord = tensors("start")
    messages = strategy.configure_train(1, start, ConfigRecord(), grid)
    return [capacities[message.metadata.dst_node_id] for message in messages]


def test_deep_clients_are_asked_first_unless_the_first_replies_close_the_round():
    depths = cohort(over_sample=1.0)
    assert depths == sorted(depths, reverse=True) and len(set(depths)) == 3
    depths = cohort(over_sample=1.5)
    assert depths != sorted(depths, reverse=True)
