"""Quantised changes: no sum overflows, and a mean is exact to the stated step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from efmodel.secure.quantise import HALF, Quantiser

WEIGHTS = st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=9)


@given(WEIGHTS, st.floats(0.01, 100.0), st.integers(0, 2**32 - 1))
def test_a_mean_differs_from_the_exact_one_by_at_most_a_step(weights, value_range, seed):
    quantiser = Quantiser(value_range, 1e5, len(weights))
    changes = np.random.default_rng(seed).uniform(-value_range, value_range, (len(weights), 5))
    whole = [quantiser.weight(weight) for weight in weights]
    total = np.zeros(5, np.uint32)
    for change, weight in zip(changes, whole, strict=True):
        total += quantiser.quantise(change, weight)
    exact = np.average(changes, axis=0, weights=weights)
    error = np.abs(quantiser.mean(total, sum(whole)) - exact).max()
    assert error <= quantiser.step(sum(whole)) + 1e-6 * value_range  # float32


@given(st.integers(1, 5000), st.sampled_from([-1.0, 1.0]))
def test_the_sum_of_the_largest_changes_of_all_clients_fits(clients, sign):
    quantiser = Quantiser(0.3, 10.0, clients)
    change = quantiser.quantise(np.full(1, sign * 1e9), quantiser.weight(1e9))
    total = clients * int(change.view(np.int32)[0])
    assert abs(total) <= HALF
    assert total == sign * clients * quantiser.levels
