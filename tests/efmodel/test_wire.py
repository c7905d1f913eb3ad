"""What tensors become on the wire, and what comes out at the other end."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays

from efmodel import wire

changes = random_arrays(np.float32, (5,), elements=st.floats(-1e3, 1e3, width=32))


def record(**arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


@given(change=changes)
@pytest.mark.parametrize(("kind", "error"), [("float16", 1 / 1024), ("int8", 1 / 127)])
def test_a_change_arrives_to_within_its_largest_values_rounding(kind, error, change):
    start = np.zeros(5, np.float32)
    sent, scales, _ = wire.encode(record(w=change), record(w=start), kind, {})
    assert sent["w"].dtype == kind
    arrived = sent["w"].numpy().astype(np.float32) * scales["w"]
    assert np.abs(arrived - change).max() <= error * np.abs(change).max() + 1e-12


@given(st.lists(changes, min_size=1, max_size=12))
def test_what_int8_rounds_away_is_sent_later(rounds):
    """Error feedback: the sum of what arrived trails the sum of the changes by one rounding."""
    zero = np.zeros(5, np.float32)
    residual: dict[str, np.ndarray] = {}
    arrived, wanted = zero.astype(np.float64), zero.astype(np.float64)
    for change in rounds:
        sent, scales, residual = wire.encode(record(w=change), record(w=zero), "int8", residual)
        arrived += sent["w"].numpy() * scales["w"]
        wanted += change
    assert np.abs(arrived - wanted).max() <= 0.51 * scales["w"] + 1e-2


def test_a_change_too_small_for_one_round_arrives_over_many():
    start, small = np.zeros(2, np.float32), np.array([1.0, 1e-3], np.float32)
    plain = fed_back = 0.0
    residual: dict[str, np.ndarray] = {}
    for _ in range(100):
        sent, scales, _ = wire.encode(record(w=small), record(w=start), "int8", {})
        plain += float(sent["w"].numpy()[1]) * scales["w"]
        sent, scales, residual = wire.encode(record(w=small), record(w=start), "int8", residual)
        fed_back += float(sent["w"].numpy()[1]) * scales["w"]
    assert plain == 0.0
    assert fed_back == pytest.approx(0.1, abs=0.01)


def test_whole_numbers_travel_as_they_are():
    steps = record(steps=np.array(2**40 + 1))
    assert wire.for_sending(steps, "int8")["steps"].numpy() == 2**40 + 1
    sent, scales, _ = wire.encode(steps, steps, "int8", {})
    assert sent["steps"].numpy() == 2**40 + 1 and not scales


def test_the_server_sends_half_and_the_client_works_in_single():
    whole = record(w=np.array([1.0, 1e6, -1e6], np.float32))
    sent = wire.for_sending(whole, "int8")
    assert sent["w"].dtype == "float16" and np.isfinite(sent["w"].numpy()).all()
    assert wire.received(sent)["w"].dtype == "float32"
    assert wire.for_sending(whole, "float32") is whole
