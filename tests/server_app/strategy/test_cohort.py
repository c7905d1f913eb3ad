"""Who is asked, who may train, who is drawn."""

import threading
import time

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from efmodel.protocol import CAPACITY, PROTOCOL, PROTOCOL_KEY, Refusal
from server_app.strategy import PartialFedAvg
from server_app.strategy.cohort import TooFewNodesError
from server_app.strategy.node import Node
from server_app.strategy.selection import selector
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

WEAK, STRONG = Node(1, "a", 1, "kitchen"), Node(2, "b", 3, "car")


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        ("", [WEAK, STRONG]), ("capacity>=2", [STRONG]), ("capacity > 1", [STRONG]),
        ("capacity<=2", [WEAK]), ("capacity<3", [WEAK]), ("capacity=3", [STRONG]),
        ("capacity!=3", [WEAK]), ("tag=kitchen", [WEAK]), ("tag != kitchen", [STRONG]),
        ("capacity>=1, tag=car", [STRONG]), ("capacity>=2,tag=kitchen", []),
    ],
)  # fmt: skip
def test_select(select, chosen):
    assert [node for node in (WEAK, STRONG) if selector(select)(node)] == chosen


@pytest.mark.parametrize(
    "select", ["capacity", "capacity>=two", "tag>=a", "colour=red", "capacity=>2"]
)
def test_a_selection_that_cannot_be_read_is_refused(select):
    with pytest.raises(ValueError, match="select: found"):
        selector(select)


def sampled(strategy, capacities, server_round=1, grid=None):
    grid = grid or LocalGrid(drifting(capacities), capacities)
    list(strategy.configure_train(server_round, tensors(0), ConfigRecord(), grid))
    return strategy.report.sampled


def test_only_selected_nodes_train():
    strategy = PartialFedAvg(OWNERS, select="capacity>=2")
    assert sampled(strategy, {1: 1, 2: 2, 3: 3, 4: 1}) == {"2": 2, "3": 3}


def test_the_round_waits_for_nodes_that_may_train():
    """Two strong nodes connect while it waits; a weak one was there all the time."""
    capacities = {1: 1, 2: 3, 3: 2}
    grid = LocalGrid(drifting(capacities), [1])
    threading.Timer(0.7, lambda: grid.node_ids.extend([2, 3])).start()
    strategy = PartialFedAvg(OWNERS, select="capacity>=2", node_timeout=30.0)
    began = time.monotonic()
    assert sampled(strategy, capacities, grid=grid) == {"2": 3, "3": 2}
    assert time.monotonic() - began > 0.5


def test_and_says_what_it_found_when_they_never_come(caplog):
    strategy = PartialFedAvg(OWNERS, select="tag=car", node_timeout=0.6)
    with pytest.raises(TooFewNodesError, match=r"found 0 of 2 nodes \(3 connected\)"):
        sampled(strategy, {1: 1, 2: 2, 3: 3})
    assert "waiting for nodes: found 0 of 2 nodes (3 connected)" in caplog.text


def test_nodes_come_and_go():
    capacities = dict.fromkeys(range(1, 7), 3)
    grid = LocalGrid(drifting(capacities), [1, 2, 3])
    strategy = PartialFedAvg(OWNERS, min_train_nodes=6)
    assert len(sampled(strategy, capacities, 1, grid)) == 3
    grid.node_ids = [3, 4, 5, 6]
    assert set(sampled(strategy, capacities, 2, grid)) == {"3", "4", "5", "6"}


def test_over_sampling_closes_the_round_with_the_first_enough():
    capacities = dict.fromkeys(range(1, 11), 2)
    strategy = PartialFedAvg(OWNERS, fraction_train=0.5, over_sample=1.4)
    grid = LocalGrid(drifting(capacities), capacities)
    messages = list(strategy.configure_train(1, tensors(0), ConfigRecord(), grid))
    assert len(messages) == 7  # 5 wanted, 1.4 times
    replies = iter(grid.send_and_receive(messages))
    new, _ = strategy.aggregate_train(1, replies)
    assert new is not None and len(strategy.report.accepted) == 5
    assert len(list(replies)) == 2  # left where they were
    assert len(strategy.report.spare) == 2 and not strategy.report.failed


def test_over_sampling_makes_up_for_those_that_fail():
    capacities = dict.fromkeys(range(1, 11), 2)

    def play(message):
        if message.metadata.message_type == "train" and message.metadata.dst_node_id % 2:
            raise RuntimeError("flat battery")
        return drifting(capacities)(message)

    strategy = PartialFedAvg(OWNERS, fraction_train=0.5, over_sample=2.0)
    grid = LocalGrid(play, capacities)
    replies = grid.send_and_receive(
        list(strategy.configure_train(1, tensors(0), ConfigRecord(), grid))
    )
    strategy.aggregate_train(1, replies)
    assert len(strategy.report.accepted) == 5 and not strategy.report.spare


def named_alike(message: Message) -> Message:
    answer = ConfigRecord({"capacity": message.metadata.dst_node_id, "name": "pi"})
    return Message(RecordDict({"config": answer}), reply_to=message)


def test_two_nodes_that_call_themselves_the_same_both_take_part():
    found = sampled(PartialFedAvg(OWNERS), {1: 1, 2: 2}, grid=LocalGrid(named_alike, [1, 2]))
    assert sorted(found.values()) == [1, 2]
    assert "pi" in found and found.keys() & {"pi (1)", "pi (2)"}


def test_a_name_is_free_again_when_its_node_is_gone():
    strategy = PartialFedAvg(OWNERS, min_train_nodes=1, min_available_nodes=1, node_timeout=5.0)
    grid = LocalGrid(named_alike, [1])
    assert sampled(strategy, {}, 1, grid) == {"pi": 1}
    grid.node_ids = [2]  # restarted
    assert sampled(strategy, {}, 2, grid) == {"pi": 2}
    strategy.fraction_train = 1.0
    grid.node_ids = [1, 2]  # it was another device, after all
    assert sampled(strategy, {}, 3, grid) == {"pi": 2, "pi (1)": 1}


def test_a_node_that_speaks_another_protocol_is_left_out_and_named(caplog):
    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        spoken = PROTOCOL + 1 if node == 2 else PROTOCOL
        answer = ConfigRecord({CAPACITY: 2, PROTOCOL_KEY: spoken})
        return Message(RecordDict({"config": answer}), reply_to=message)

    strategy = PartialFedAvg(OWNERS)
    assert sampled(strategy, {}, grid=LocalGrid(play, [1, 2, 3])) == {"1": 2, "3": 2}
    wanted = f"protocol: found {PROTOCOL + 1} on the node, wanted {PROTOCOL} as on the server"
    assert wanted in strategy.report.unmet["2"]
    assert f"node 2 left out, its query failed: {wanted}" in caplog.text


@pytest.mark.parametrize("code", [Refusal.CAPACITY, ErrorCode.CLIENT_APP_RAISED_EXCEPTION])
def test_an_error_makes_the_server_ask_the_node_again(code):
    """A device killed for its memory has a lower capacity: that costs it one round, not two."""
    capacities = {1: 3, 2: 3}

    def play(message: Message) -> Message:
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 2:
            return Message(Error(code=code, reason="not today"), reply_to=message)
        return drifting(capacities)(message)

    strategy, grid = PartialFedAvg(OWNERS), LocalGrid(play, [1, 2])
    messages = strategy.configure_train(1, tensors(0), ConfigRecord(), grid)
    strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert strategy.report.failed == {"2": "not today"}
    capacities[2] = 1
    assert sampled(strategy, capacities, 2, grid) == {"1": 3, "2": 1}
    asked = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "query"]
    assert asked.count(2) == 2 and asked.count(1) == 1
