"""Clipping on the client, where the server cannot do it: the bound holds once all is rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.secure import shrinking
from efmodel.secure.quantise import Quantiser


@given(st.floats(1e-3, 100.0), st.floats(1e-4, 1e3), st.integers(1, 5000), st.integers(0, 9999))
def test_what_a_client_sends_never_exceeds_the_bound(bound, size, clients, seed):
    change = (np.random.default_rng(seed).normal(size=60) * size).astype(np.float32)
    quantiser = Quantiser(bound, 1.0, clients)
    weight = quantiser.weight(1.0)
    factor = shrinking({"w": change}, bound, quantiser.rounding(change.size, weight))
    whole = quantiser.quantise(change * factor, weight).view(np.int32)
    assert np.linalg.norm(whole * (bound / weight)) <= bound * (1 + 1e-6)  # float32


def test_without_a_bound_nothing_is_clipped_and_nan_is_named():
    assert shrinking({"w": np.full(3, 1e6, np.float32)}, 0.0, 1.0) == 1.0
    with pytest.raises(ValueError, match="b: found nan or inf"):
        shrinking({"a": np.zeros(2), "b": np.array([1.0, np.inf])}, 0.0, 0.0)
