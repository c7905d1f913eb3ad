"""Epsilon is dp-accounting's own for the same events, and the noise for an epsilon the least."""

import math

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant

from server_app.accountant import epsilon, multiplier_for, release

DELTA = 1e-5


@pytest.mark.parametrize(
    "rounds",
    [
        [(1.0, 1.0, 96)],
        [(1.3, 0.15, 96)],
        [(0.8, 0.0425, 7), (1.1, 0.0425, 3), (2.5, 0.2, 1), (4.0, 1.0, 2)],  # of a resumed run
        [(0.7, 1e-4, 1000)],
    ],
)
def test_epsilon_is_dp_accountings_own_for_the_same_events(rounds):
    reference = RdpAccountant()
    for multiplier, probability, count in rounds:
        event = GaussianDpEvent(multiplier)
        if probability < 1:
            event = PoissonSampledDpEvent(probability, event)
        reference.compose(event, count)
    counted = {release(z, probability): count for z, probability, count in rounds}
    assert epsilon(counted, DELTA) == pytest.approx(reference.get_epsilon(DELTA), rel=1e-9)


def test_no_round_costs_nothing():
    assert epsilon({}, DELTA) == 0


@pytest.mark.parametrize("probability", [1.0, 0.15])
@pytest.mark.parametrize("target", [0.5, 8.0])
def test_the_noise_for_an_epsilon_is_enough_and_no_less_would_be(target, probability):
    multiplier = multiplier_for(target, DELTA, 20, probability)
    assert epsilon({release(multiplier, probability): 20}, DELTA) <= target
    assert epsilon({release(multiplier / 1.001, probability): 20}, DELTA) > target


def test_the_noise_of_the_rounds_left_makes_up_for_those_before():
    """Three rounds with half the noise leave 17 rounds that want more."""
    planned = multiplier_for(8.0, DELTA, 20)
    before = {release(planned / 2): 3}
    multiplier = multiplier_for(8.0, DELTA, 17, before=before)
    assert multiplier > planned
    assert 7.99 < epsilon({**before, release(multiplier): 17}, DELTA) <= 8


def test_more_noise_than_makes_sense_is_not_searched_for():
    assert multiplier_for(1e-4, DELTA, 20) == math.inf
    nothing_left = {release(1.0): 1}
    assert multiplier_for(1.0, DELTA, 20, before=nothing_left) == math.inf


def test_a_probability_is_rounded_up():
    assert release(1.0, 1 / 3).sample_size == 333_334
    assert release(1.0, 0.07).sample_size == 70_000
    assert release(1.0, 1e-9).sample_size == 1
