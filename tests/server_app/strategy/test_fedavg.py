"""PartialFedAvg: who is sent what, what is averaged, and what is left out."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from server_app.strategy import PartialFedAvg
from server_app.strategy.cohort import TooFewNodesError
from simulation.in_process_grid import LocalGrid

OWNERS = {"front": 0, "one": 1, "two": 2, "three": 3}


def arrays(value: float = 0.0) -> ArrayRecord:
    return ArrayRecord({n: Array(np.full((2, 3), value, dtype=np.float32)) for n in OWNERS})


def reply_with(message: Message, tensors: ArrayRecord, **metrics) -> Message:
    record = MetricRecord({"num-examples": 10, **metrics})
    return Message(RecordDict({"arrays": tensors, "metrics": record}), reply_to=message)


def honest(message: Message) -> Message:
    """Node k has capacity k (from 1), and returns k everywhere."""
    node = message.metadata.dst_node_id
    if message.metadata.message_type == "query":
        answer = ConfigRecord({"capacity": node})
        return Message(RecordDict({"config": answer}), reply_to=message)
    names = message.content["arrays"].keys()
    filled = {n: Array(np.full((2, 3), node, dtype=np.float32)) for n in names}
    return reply_with(message, ArrayRecord(filled))


def one_round(play, strategy=None, nodes=(1, 2, 3)):
    strategy = strategy or PartialFedAvg(OWNERS, min_train_nodes=len(nodes), node_timeout=0.1)
    grid = LocalGrid(play, nodes)
    messages = strategy.configure_train(1, arrays(), ConfigRecord({"lr": 0.1}), grid)
    replies = grid.send_and_receive(messages)
    new, metrics = strategy.aggregate_train(1, iter(replies))
    return strategy, grid, new, metrics


def test_each_client_is_sent_exactly_the_names_it_needs():
    _, grid, _, _ = one_round(honest)
    sent = {m.metadata.dst_node_id: m.content for m in grid.sent if "arrays" in m.content}
    assert {k: list(c["arrays"]) for k, c in sent.items()} == {
        1: ["front", "one"],
        2: ["front", "one", "two"],
        3: ["front", "one", "two", "three"],
    }
    assert dict(sent[2]["config"]) == {"lr": 0.1, "server-round": 1, "capacity": 2}


def test_each_tensor_is_the_mean_of_its_trainers():
    strategy, _, new, metrics = one_round(honest)
    assert [new[n].numpy()[0, 0] for n in OWNERS] == [2.0, 2.0, 2.5, 3.0]
    assert strategy.report.trainers(3) == [3, 2, 1]
    assert metrics["num-examples"] == 30


def test_cohort_coverage_divides_by_everybody():
    strategy = PartialFedAvg(OWNERS, coverage="cohort", min_train_nodes=3)
    _, _, new, _ = one_round(honest, strategy)
    assert [round(float(new[n].numpy()[0, 0]), 4) for n in OWNERS] == [2.0, 2.0, 1.6667, 1.0]


def test_weighting():
    def unequal(message):
        reply = honest(message)
        if "metrics" in reply.content:
            reply.content["metrics"]["num-examples"] = {1: 30, 2: 20, 3: 10}[
                message.metadata.dst_node_id
            ]
        return reply

    by_examples = one_round(unequal)[2]
    uniform = one_round(unequal, PartialFedAvg(OWNERS, weighting="uniform", min_train_nodes=3))[2]
    assert by_examples["one"].numpy()[0, 0] == pytest.approx((30 + 40 + 30) / 60)
    assert uniform["one"].numpy()[0, 0] == pytest.approx(2.0)


def test_all_at_full_depth_it_is_flowers_fedavg():
    def full(message):
        reply = honest(message)
        if message.metadata.message_type == "query":
            reply.content["config"]["capacity"] = 3
        return reply

    ours = one_round(full)[2]
    theirs = one_round(full, FedAvg(min_train_nodes=3, min_available_nodes=3))[2]
    for name in OWNERS:
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), atol=1e-6)


def spoil(message: Message, how: str) -> Message | None:
    """Play node 2 badly, the others honestly."""
    if message.metadata.dst_node_id != 2 or message.metadata.message_type == "query":
        return honest(message)
    tensors = ArrayRecord(dict(honest(message).content["arrays"]))
    ones = np.ones((2, 3), dtype=np.float32)
    if how == "raises":
        raise RuntimeError("out of battery")
    if how == "silent":
        return None
    if how == "nan":
        tensors["two"] = Array(ones * np.nan)
    if how == "shape":
        tensors["two"] = Array(ones[:, :2].copy())
    if how == "dtype":
        tensors["two"] = Array(ones.astype(np.float64))
    if how == "deeper":
        tensors["three"] = Array(ones)
    if how == "unknown":
        tensors["four"] = Array(ones)
    if how == "empty":
        tensors = ArrayRecord()
    reply = reply_with(message, tensors)
    if how == "no examples":
        reply.content["metrics"] = MetricRecord({"loss": 1.0})
    if how == "negative examples":
        reply.content["metrics"]["num-examples"] = -5
    if how == "nan examples":
        reply.content["metrics"]["num-examples"] = float("nan")
    if how == "lying bytes":
        tensors["two"].data = Array(ones[:1]).data
    return reply


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "out of battery"),
        ("silent", "no reply in time"),
        ("nan", "two: found nan or inf"),
        ("shape", r"two: found float32\[2, 2\], wanted float32\[2, 3\]"),
        ("dtype", r"two: found float64\[2, 3\], wanted float32\[2, 3\]"),
        ("deeper", "three: found a tensor that was not sent"),
        ("unknown", "four: found a tensor that was not sent"),
        ("empty", "found no tensors"),
        ("no examples", "num-examples: found None, wanted a number above 0"),
        ("negative examples", "num-examples: found -5"),
        ("nan examples", "num-examples: found nan"),
        ("lying bytes", "two: found"),
    ],
)
def test_one_clients_rubbish_is_dropped_and_named_and_the_round_goes_on(how, reason):
    import re

    strategy, _, new, _ = one_round(lambda message: spoil(message, how))
    assert list(strategy.report.failed) == ["2"]
    assert re.search(reason, strategy.report.failed["2"])
    # Exactly what nodes 1 and 3 make of it: nothing of node 2's is in any sum.
    assert [new[n].numpy()[0, 0] for n in OWNERS] == [2.0, 2.0, 3.0, 3.0]


def test_a_round_without_a_usable_reply_changes_nothing():
    def useless(message):
        if message.metadata.message_type == "query":
            return honest(message)
        raise RuntimeError("no")

    strategy, _, new, metrics = one_round(useless)
    assert new is None and metrics is None and len(strategy.report.failed) == 3


def test_a_second_reply_of_the_same_node_does_not_count():
    strategy = PartialFedAvg(OWNERS, min_train_nodes=3)
    grid = LocalGrid(honest, [1, 2, 3])
    replies = grid.send_and_receive(strategy.configure_train(1, arrays(), ConfigRecord(), grid))
    new, _ = strategy.aggregate_train(1, replies + [replies[-1]])
    assert new["front"].numpy()[0, 0] == 2.0


def test_a_node_whose_query_fails_is_left_out_and_asked_again():
    asked = []

    def late(message):
        if message.metadata.message_type == "query":
            asked.append(message.metadata.dst_node_id)
            if message.metadata.dst_node_id == 3 and asked.count(3) == 1:
                raise RuntimeError("still booting")
        return honest(message)

    strategy = PartialFedAvg(OWNERS, min_train_nodes=3)
    strategy, grid, _, _ = one_round(late, strategy)
    assert sorted(strategy.report.sampled) == ["1", "2"]
    assert "still booting" in strategy.report.unmet["3"]
    list(strategy.configure_train(2, arrays(), ConfigRecord(), grid))
    assert sorted(strategy.report.sampled) == ["1", "2", "3"]
    assert sorted(asked) == [1, 2, 3, 3]  # those known are not asked twice


@pytest.mark.parametrize("capacity", [0, 9, 1.5, "2"])
def test_an_impossible_capacity_is_refused(capacity):
    def liar(message):
        reply = honest(message)
        if message.metadata.message_type == "query" and message.metadata.dst_node_id == 3:
            reply.content["config"]["capacity"] = capacity
        return reply

    strategy, _, _, _ = one_round(liar)
    assert f"capacity: found {capacity!r}, wanted 1 to 3" in strategy.report.unmet["3"]


def test_the_same_seed_draws_the_same_cohorts():
    def cohorts(seed):
        strategy = PartialFedAvg(OWNERS, seed=seed, fraction_train=0.4)
        grid = LocalGrid(lambda m: honest_of_three(m), range(1, 11))
        drawn = []
        for server_round in range(1, 6):
            list(strategy.configure_train(server_round, arrays(), ConfigRecord(), grid))
            drawn.append(list(strategy.report.sampled))
        return drawn

    def honest_of_three(message):
        capacity = 1 + message.metadata.dst_node_id % 3
        return Message(
            RecordDict({"config": ConfigRecord({"capacity": capacity})}), reply_to=message
        )

    assert cohorts(0) == cohorts(0) != cohorts(1)
    assert all(len(cohort) == 4 for cohort in cohorts(0))


def test_waiting_for_nodes_ends():
    strategy = PartialFedAvg(OWNERS, min_available_nodes=5, node_timeout=0.1)
    with pytest.raises(TooFewNodesError, match=r"found 3 of 5 nodes \(3 connected\)"):
        strategy.configure_train(1, arrays(), ConfigRecord(), LocalGrid(honest, [1, 2, 3]))


def test_it_is_drop_in_for_flowers_own_start():
    strategy = PartialFedAvg(OWNERS, min_train_nodes=3)
    result = strategy.start(LocalGrid(honest, [1, 2, 3]), arrays(), num_rounds=2)
    assert [result.arrays[n].numpy()[0, 0] for n in OWNERS] == [2.0, 2.0, 2.5, 3.0]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="coverage: found 'most'"):
        PartialFedAvg(OWNERS, coverage="most")
    with pytest.raises(ValueError, match="weighting: found 'size'"):
        PartialFedAvg(OWNERS, weighting="size")
    with pytest.raises(ValueError, match="owner_exits and arrays differ in .*three"):
        grid = LocalGrid(honest, [1, 2])
        PartialFedAvg({"front": 0, "one": 1, "two": 2}).configure_train(
            1, arrays(), ConfigRecord(), grid
        )


def test_a_node_that_trains_less_than_it_says_is_taken_for_what_it_trains():
    def boaster(message):
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": 3})
            return Message(RecordDict({"config": answer}), reply_to=message)
        if message.metadata.dst_node_id == 3:
            return honest(message)
        return reply_with(message, ArrayRecord({"one": message.content["arrays"]["one"]}))

    strategy, grid, _, _ = one_round(boaster, nodes=(1, 3))
    assert strategy.report.trainers(3) == [2, 1, 1]
    strategy.configure_train(2, arrays(), ConfigRecord(), grid)
    assert strategy.report.sampled == {"1": 1, "3": 3}
