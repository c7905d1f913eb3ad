"""Thresholds from held-out speech: pooled, or from the counts of several clients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding.calibrate_command import best_policy
from efmodel.decoding.calibration import BINS, EDGES, Observations, thresholds
from efmodel.decoding.curve import Curve, Point

COSTS = (1.0, 2.0, 3.0)


def observations(seed: int, count: int, num_exits: int = 3) -> Observations:
    """Utterances of which the harder ones are less certain and gain more from depth."""
    generator = np.random.default_rng(seed)
    hardness = np.sort(generator.gamma(1.0, 0.3, count))
    words = generator.integers(1, 9, count)
    scores = np.stack([-hardness / (exit + 1) for exit in range(num_exits)])
    chances = np.stack([np.minimum(0.9, hardness / (2 * exit + 1)) for exit in range(num_exits)])
    errors = generator.binomial(words, chances)
    return Observations({"confidence": scores}, errors, words, generator.uniform(1, 5, count))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_counts_of_clients_give_the_thresholds_of_their_pooled_speech(seed, clients):
    pooled = observations(seed, 60)
    owner = np.random.default_rng(seed).integers(0, clients, 60)
    histograms = []
    for client in range(clients):
        own = owner == client
        part = Observations(
            {"confidence": pooled.scores["confidence"][:, own]},
            pooled.errors[:, own], pooled.words[own], pooled.seconds[own],
        )  # fmt: skip
        histograms.append(part.histogram("confidence"))
    assert np.array_equal(sum(histograms), pooled.histogram("confidence"))
    assert thresholds(sum(histograms), COSTS, 0.05) == thresholds(
        pooled.histogram("confidence"), COSTS, 0.05
    )


def test_a_histogram_counts_each_utterance_in_the_bin_of_its_score():
    scores = np.array([[0.0, -EDGES[0], -1e9], [-0.5, -0.5, -0.5]])
    errors = np.array([[1, 2, 4], [1, 1, 1]])
    seen = Observations({"x": scores}, errors, np.array([5, 5, 5]), np.ones(3))
    counts = seen.histogram("x")
    assert counts.shape == (1, BINS, 3)
    assert counts[0, 0].tolist() == [1, 1, 1]  # certain
    assert counts[0, 1].tolist() == [1, 2, 1]  # at the first edge, so behind it
    assert counts[0, -1].tolist() == [1, 4, 1]
    # A threshold is an edge: exactly the bins below it stop.
    assert seen.stops({"x": [-EDGES[0]]}).tolist() == [1, 2, 2]
    assert seen.stops({"x": [0.0]}).tolist() == [2, 2, 2]
    assert seen.stops({"x": [-EDGES[-1]]}).tolist() == [1, 1, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.1]))
def test_with_two_exits_it_is_the_deepest_corner_of_the_convex_loss_that_is_allowed(
    seed, tolerance
):
    """Against a search through every edge at a corner of the convex function below the losses."""
    seen = observations(seed, 80, num_exits=2)
    [found] = thresholds(seen.histogram("confidence"), (1.0, 2.0), tolerance)
    surprise = -seen.scores["confidence"][0]
    lost = seen.errors[0] - seen.errors[1]
    allowed = tolerance * seen.errors[1].sum()
    points = [(0, 0.0)]  # of utterances that stop, and what they lose, for each edge
    points += [((surprise < edge).sum(), lost[surprise < edge].sum()) for edge in EDGES]
    points += [(len(surprise), lost.sum())]

    def is_a_corner(n, x):
        return all(
            (x - a) * (m - k) < (b - a) * (n - k) - 1e-9
            for k, a in points for m, b in points if k < n < m
        )  # fmt: skip

    counts = [n for n, x in points[:-1] if is_a_corner(n, x) and x <= allowed + 1e-9]
    stopped = (surprise < -found).sum() if found < 0 else 0
    assert stopped == max(counts)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_a_higher_tolerance_never_costs_more_compute(seed):
    seen = observations(seed, 100)
    histogram = seen.histogram("confidence")
    costs = []
    for tolerance in (0.0, 0.02, 0.1, 0.5, 10.0):
        exits = seen.stops({"confidence": thresholds(histogram, COSTS, tolerance)})
        costs.append(np.array(COSTS)[exits - 1].sum())
    assert costs == sorted(costs, reverse=True)


def test_on_other_speech_of_the_same_kind_the_errors_stay_within_the_tolerance():
    found = thresholds(observations(0, 5_000).histogram("confidence"), COSTS, 0.05)
    other = observations(1, 5_000)
    exits = other.stops({"confidence": found})
    assert other.errors_at(exits) <= 1.07 * other.errors[-1].sum()
    assert np.array(COSTS)[exits - 1].mean() < 0.9 * COSTS[-1]
    assert len(set(exits)) == 3


def test_exits_that_never_gain_from_depth_stop_at_once():
    seen = observations(0, 50)
    same = Observations(seen.scores, np.stack([seen.errors[0]] * 3), seen.words, seen.seconds)
    found = thresholds(same.histogram("confidence"), COSTS, 0.0)
    assert (same.stops({"confidence": found}) == 1).mean() > 0.95  # but for the open last bin


def test_the_oracle_and_the_choice_of_a_policy():
    seen = observations(3, 200)
    curve = Curve(seen, [2, 4, 6], [1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    fixed, oracle = curve.fixed(), curve.oracle()
    assert [round(p.layers) for p in fixed] == [2, 4, 6]
    assert oracle.wer <= min(point.wer for point in fixed)
    assert fixed[2].wer == pytest.approx(seen.errors[2].sum() / seen.words.sum())
    points = [Point("a", 0.2, 0, 1, 0), Point("b", 0.1, 0, 2, 0), Point("c", 0.1, 0, 3, 0)]
    assert best_policy(0.1, points) == "b"
    assert best_policy(0.05, points) == "a"  # none is accurate enough
