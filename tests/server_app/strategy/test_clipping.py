"""One client cannot move the model further than the bound; noise fits each tensor's trainers."""

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server_app.strategy import PartialFedAvg, clipping
from server_app.strategy.cohort import flip_coins
from server_app.strategy.fold import Fold
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.reply import ClientUpdate
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
        clipping.Bound.parsed(bound)


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
        assert_noise(moved[name], 0.5 * 2.0 / clients)
    assert_independent(moved["front"], moved["one"])


def assert_noise(values, deviation):
    """Check mean and deviation to five standard errors: a right one fails once in 1.7 million."""
    assert abs(values.mean()) < 5 * deviation / math.sqrt(values.size)
    assert values.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * values.size))


def assert_independent(one, other):
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(one.size)


def test_a_tensor_without_trainers_gets_no_noise():
    moved = one_round(
        {1: 0.0, 2: 0.0}, {1: 1, 2: 1}, weighting="uniform", max_update_norm="1.0",
        dp_noise_multiplier=1.0,
    )  # fmt: skip
    assert moved["one"].any() and not moved["two"].any()


def test_noise_without_a_bound_or_with_unequal_weights_is_refused():
    for arguments, message in (
        ({"max_update_norm": "1.0"}, "weighting: found 'examples', wanted uniform"),
        ({"weighting": "uniform"}, "max-update-norm: found 'off', wanted a number"),
        ({"weighting": "uniform", "max_update_norm": "auto"}, "found 'auto', wanted a number"),
    ):
        with pytest.raises(ValueError, match=message):
            PartialFedAvg(OWNERS, dp_noise_multiplier=1.0, **arguments)


FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
SOME = st.floats(-10, 10, width=32)


@st.composite
def updates(draw, wire: bool):
    """A model of three tensors, and what a client of capacity 1 or 2 returns of it."""
    current = {name: draw(arrays(np.float32, 3, elements=SOME)) for name in OWNERS}
    held = [name for name, owner in OWNERS.items() if owner <= draw(st.sampled_from([1, 2]))]
    if not wire:
        values = {name: draw(arrays(np.float32, 3, elements=FINITE)) for name in held}
        return current, ClientUpdate(1, values, None, 1.0, MetricRecord())
    coded = {name: draw(arrays(np.int8, 3)) for name in held}
    scales = {name: draw(st.floats(1e-6, 1e6)) for name in held}
    return current, ClientUpdate(1, coded, scales, 1.0, MetricRecord())


@given(st.booleans().flatmap(updates), st.floats(1e-3, 1e3), st.sampled_from([0, len(OWNERS)]))
def test_no_update_changes_the_sums_by_more_than_the_bound(update, bound, parts):
    """All tensors together, of whatever size: what the noise is made for."""
    current, sent = update
    fold = Fold(PartialMean("trainers"), current, clipping.Bound(bound, parts))
    fold.add(sent)
    zero = np.zeros(3, np.float32)
    added = {name: fold.result().mean(name, zero) for name in sent.arrays}
    norms = {name: np.linalg.norm(array.astype(np.float64)) for name, array in added.items()}
    assert math.hypot(*norms.values()) <= bound * (1 + 1e-6)
    for norm in norms.values():
        assert norm <= bound / math.sqrt(parts or 1) * (1 + 1e-6)


@given(st.booleans().flatmap(updates))
def test_a_change_within_the_bound_is_left_alone(update):
    current, sent = update
    fold = Fold(PartialMean("trainers"), current, clipping.Bound(1e35))
    fold.add(sent)
    for name, array in sent.arrays.items():
        change = array * np.float64(sent.scales[name]) if sent.scales else array - current[name]
        np.testing.assert_allclose(fold.result().mean(name, np.zeros(3, np.float32)), change, 1e-6)


def test_each_tensor_is_clipped_by_the_whole_models_number_of_tensors():
    """Both nodes hold two of three tensors, and each of them is clipped to a third's share."""
    moved = one_round({1: 3.0, 2: 9.0}, {1: 1, 2: 1}, max_update_norm="0.6", clip_by="tensor")
    for name in ("front", "one"):
        assert np.linalg.norm(moved[name]) == pytest.approx(0.6 / math.sqrt(3), rel=1e-5)
    with pytest.raises(ValueError, match="max-update-norm: found 'auto', wanted a number"):
        PartialFedAvg(OWNERS, clip_by="tensor", max_update_norm="auto")


POISSON = {"dp_sampling": "poisson", "weighting": "uniform", "max_update_norm": "2.0"}


def test_a_drawn_cohorts_sum_is_divided_by_the_expected_number_of_trainers():
    strategy = PartialFedAvg(OWNERS, fraction_train=0.5, min_available_nodes=8, **POISSON)
    capacities = {node: 1 + node % 2 for node in range(1, 9)}
    grid = LocalGrid(pushing(dict.fromkeys(capacities, 0.1), capacities), capacities)
    start = ArrayRecord({n: Array(np.ones(4, dtype=np.float32)) for n in OWNERS})
    sizes = set()
    for _ in range(20):
        messages = strategy.configure_train(1, start, ConfigRecord(), grid)
        new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
        drawn = list(strategy.report.sampled.values())
        sizes.add(len(drawn))
        for name, expected in zip(OWNERS, (4, 4, 2), strict=True):
            trained = sum(capacity >= OWNERS[name] for capacity in drawn)
            found = new[name].numpy() - 1 if new else 0
            np.testing.assert_allclose(found, 0.1 * trained / expected, rtol=1e-4, atol=1e-6)
    assert len(sizes) > 1  # every size the same: once in 10^11


def test_a_cohort_that_was_drawn_by_coins_shows_in_no_tensors_noise():
    """Nobody was drawn, and all that any node could have trained gets its noise all the same."""
    moved = one_round(
        dict.fromkeys([1, 2, 3, 4], 0.0), {1: 1, 2: 1, 3: 1, 4: 2}, size=SIZE,
        dp_noise_multiplier=0.5, fraction_train=1e-9, **POISSON,
    )  # fmt: skip
    for name, nodes in zip(OWNERS, (4, 4, 1), strict=True):
        assert_noise(moved[name], 0.5 * 2.0 / (1e-9 * nodes))


def test_each_node_is_drawn_with_the_share_that_is_accounted_for():
    nodes = [Node(place, str(place), 1 + place % 3) for place in range(10_000)]
    drawn = flip_coins(nodes, 0.15)
    error = math.sqrt(0.15 * 0.85 / len(nodes))
    assert abs(len(drawn) / len(nodes) - 0.15) < 5 * error
    assert [node.capacity for node in drawn] == sorted((n.capacity for n in drawn), reverse=True)
    with pytest.raises(ValueError, match="over-sample: found 1.5, wanted 1"):
        PartialFedAvg(OWNERS, over_sample=1.5, **POISSON)
    with pytest.raises(ValueError, match="weighting: found 'examples', wanted uniform"):
        PartialFedAvg(OWNERS, dp_sampling="poisson")
