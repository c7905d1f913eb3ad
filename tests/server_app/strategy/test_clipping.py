"""One client cannot move the model further than the bound; noise fits each tensor's trainers."""

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from server_app.strategy import PartialFedAvg, clipping
from simulation.in_process_grid import LocalGrid

OWNERS = {"front": 0, "one": 1, "two": 2}
SIZE = 50_000


def pushing(pushes: dict[int, float], capacities: dict[int, int]):
    """Node k returns every tensor moved by ``pushes[k]`` everywhere."""

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": capacities[node]})
            return Message(RecordDict({"config": answer}), reply_to=message)
        received = message.content["arrays"]
        moved = {n: Array(a.numpy() + np.float32(pushes[node])) for n, a in received.items()}
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
        return Message(content, reply_to=message)

    return play


def one_round(pushes, capacities, size=4, order=None, **arguments):
    strategy = PartialFedAvg(OWNERS, min_train_nodes=len(pushes), **arguments)
    grid = LocalGrid(pushing(pushes, capacities), pushes)
    start = ArrayRecord({n: Array(np.ones(size, dtype=np.float32)) for n in OWNERS})
    replies = list(grid.send_and_receive(strategy.configure_train(1, start, ConfigRecord(), grid)))
    replies = [replies[i] for i in order] if order else replies
    new, _ = strategy.aggregate_train(1, replies)
    return {n: new[n].numpy() - 1 for n in OWNERS}


def test_a_change_is_shortened_to_the_bound():
    # Node 1 holds two tensors of 4 values: its norm is 3 sqrt(8), node 2's 0.1 sqrt(12).
    moved = one_round({1: 3.0, 2: 0.1}, {1: 1, 2: 2}, max_update_norm="0.5")
    shortened = 0.5 / math.sqrt(8)
    np.testing.assert_allclose(moved["one"], (shortened + 0.1) / 2, rtol=1e-5)
    np.testing.assert_allclose(moved["two"], 0.1, rtol=1e-5)  # within the bound: as it was


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
def test_auto_shortens_to_the_cohorts_median_whatever_the_order(coverage):
    pushes = {1: 0.1, 2: 0.2, 3: 50.0, 4: 0.3, 5: 0.15}
    capacities = {1: 1, 2: 2, 3: 2, 4: 1, 5: 2}
    arguments = {"max_update_norm": "auto", "coverage": coverage}
    found = one_round(pushes, capacities, **arguments)
    others = one_round(pushes, capacities, order=[4, 2, 0, 3, 1], **arguments)
    # Per value every node's norm is its push: the median is 0.2, which nodes 3 and 4 are cut to.
    np.testing.assert_allclose(found["one"], (0.1 + 0.2 + 0.2 + 0.2 + 0.15) / 5, rtol=1e-5)
    deep = (0.2 + 0.2 + 0.15) / (5 if coverage == "cohort" else 3)
    np.testing.assert_allclose(found["two"], deep, rtol=1e-5)
    for name in OWNERS:
        np.testing.assert_allclose(found[name], others[name], atol=1e-6)


@pytest.mark.parametrize("bound", ["0", "-1", "nan", "inf", "much"])
def test_what_is_no_bound_is_refused(bound):
    with pytest.raises(ValueError, match=f"max-update-norm: found '{bound}'"):
        clipping.parse(bound)


def test_nothing_moved_is_nothing_to_shorten():
    moved = one_round({1: 0.0, 2: 0.0}, {1: 1, 2: 2}, max_update_norm="auto")
    assert not any(m.any() for m in moved.values())


@pytest.mark.parametrize(("coverage", "divisors"), [("trainers", (4, 4, 1)), ("cohort", (4, 4, 4))])
def test_central_noise_is_that_of_each_tensors_own_trainers(coverage, divisors):
    """z C on the sum of clipped changes: z C / n on a mean over n."""
    moved = one_round(
        dict.fromkeys([1, 2, 3, 4], 0.0), {1: 1, 2: 1, 3: 1, 4: 2}, size=SIZE, coverage=coverage,
        weighting="uniform", max_update_norm="2.0", dp_noise_multiplier=0.5,
    )  # fmt: skip
    for name, clients in zip(OWNERS, divisors, strict=True):
        assert moved[name].std() == pytest.approx(0.5 * 2.0 / clients, rel=0.03)
        assert abs(moved[name].mean()) < 0.02
    assert not np.array_equal(moved["front"], moved["one"])  # each tensor its own


def test_a_tensor_without_trainers_gets_no_noise():
    moved = one_round(
        {1: 0.0, 2: 0.0}, {1: 1, 2: 1}, weighting="uniform", max_update_norm="1.0",
        dp_noise_multiplier=1.0,
    )  # fmt: skip
    assert moved["one"].any() and not moved["two"].any()


def test_noise_without_a_bound_or_with_unequal_weights_is_refused():
    for arguments in ({"max_update_norm": "1.0"}, {"weighting": "uniform"},
                      {"weighting": "uniform", "max_update_norm": "auto"}):  # fmt: skip
        with pytest.raises(ValueError, match="dp-noise-multiplier wants"):
            PartialFedAvg(OWNERS, dp_noise_multiplier=1.0, **arguments)
