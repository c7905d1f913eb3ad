"""Sums: checked and added in one pass, and a bad reply leaves nothing behind."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server_app.strategy import running_sums
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.running_sums import SAFE, NotFiniteError, RunningSums

SHAPES = {"front": (7, 3), "one": (11,), "two": (5, 2), "deep": (3,), "none": (0, 4)}


def reply(seed: int, names=SHAPES, size: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (size * rng.normal(size=SHAPES[name])).astype(np.float32) for name in names}


def added(replies, weights, piece=4) -> PartialMean:
    mean = PartialMean("trainers")
    with mock.patch.object(running_sums, "PIECE", piece):
        for arrays, weight in zip(replies, weights, strict=True):
            mean.add(arrays, weight)
    return mean


@settings(deadline=None)
@given(
    before=st.lists(st.floats(0.1, 50), max_size=4),
    weight=st.floats(0.1, 50),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    name=st.sampled_from(["front", "one", "two", "deep"]),
    place=st.integers(0, 100),
    size=st.sampled_from([1.0, 10.0, 1e4, 1e30]),
    deeper=st.booleans(),
)
def test_a_reply_with_one_bad_value_anywhere_changes_nothing(
    before, weight, bad, name, place, size, deeper
):
    """Also after huge finite values; to the bound that ``RunningSums.add`` states."""
    shallow = ["front", "one", "two", "none"]
    good = [reply(k, SHAPES if deeper else shallow) for k in range(len(before))]
    mean, wanted = added(good, before), added(good, before)
    spoilt = reply(99, size=size)
    spoilt[name].reshape(-1)[place % spoilt[name].size] = bad
    with mock.patch.object(running_sums, "PIECE", 4):
        with pytest.raises(NotFiniteError, match=f"{name}: found nan or inf"):
            mean.add(spoilt, weight)
    assert (mean.weights, mean.trainers) == (wanted.weights, wanted.trainers)
    assert mean.total == wanted.total
    for tensor in wanted.weights:
        total = wanted._sums.sum(tensor)
        bound = 2**-23 * (np.abs(total) + SAFE * weight)
        assert (np.abs(mean._sums.sum(tensor) - total) <= bound).all()
    # And the next reply is added as if the bad one had never come.
    last = reply(100)
    with mock.patch.object(running_sums, "PIECE", 4):
        mean.add(last, 2.0)
        wanted.add(last, 2.0)
    for tensor in SHAPES:
        one, other = mean.mean(tensor, last[tensor]), wanted.mean(tensor, last[tensor])
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2**-22 * SAFE * (1 + weight))


@given(count=st.integers(1, 7), piece=st.integers(1, 40))
@settings(deadline=None)
def test_pieces_give_the_sum_in_the_order_of_the_replies(count, piece):
    replies = [reply(k, list(SHAPES)[: 1 + k % len(SHAPES)]) for k in range(count)]
    mean = added(replies, range(1, count + 1), piece)
    for name in SHAPES:
        total = np.zeros(SHAPES[name])
        for weight, arrays in enumerate(replies, start=1):
            total += weight * arrays[name] if name in arrays else 0.0
        if name in mean.weights:
            np.testing.assert_allclose(mean._sums.sum(name), total, rtol=1e-5, atol=1e-5)
    whole = added(replies, range(1, count + 1), 1 << 20)
    for name in whole.weights:  # bit for bit: the pieces do not change the order
        assert np.array_equal(whole._sums.sum(name), mean._sums.sum(name))


def test_a_value_that_overflows_with_its_weight_is_refused():
    sums = RunningSums()
    huge = {"x": np.array([3e38], np.float32)}
    sums.add(huge, {"x": 1.0}, 1.0)
    with pytest.raises(NotFiniteError, match="x: found 3e.38, too large to sum"):
        sums.add(huge, {"x": 2.0}, 2.0)
    assert sums.sum("x") == np.float32(3e38)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int64])
def test_every_type_that_travels_is_added(dtype):
    values = {"x": np.array([1, -2, 3], dtype)}
    sums = RunningSums()
    for scale in (1.0, 2.0, 0.5):
        sums.add(values, {"x": scale}, scale)
    assert sums.sum("x").dtype == (np.float64 if dtype is np.int64 else np.float32)
    np.testing.assert_array_equal(sums.sum("x"), [3.5, -7, 10.5])
