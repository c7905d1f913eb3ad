"""Reading ahead: one batch, in order, and nothing else than a plain loop would see."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.speech.ahead import ahead


@given(st.lists(st.integers()), st.integers(0, 3))
def test_random_choices_are_those_of_a_plain_loop(batches, seed):
    one, other = random.Random(seed), random.Random(seed)
    plain = [(batch, one.random()) for batch in batches]
    assert list(ahead(batches, lambda batch: (batch, other.random()))) == plain


def test_the_next_batch_is_loaded_while_this_one_is_used_and_no_other():
    loaded = [threading.Event() for _ in range(4)]
    used = ahead(range(4), lambda number: loaded[number].set() or number)
    assert next(used) == 0
    assert loaded[1].wait(10)
    assert not loaded[2].wait(0.1)
    assert next(used) == 1 and loaded[2].wait(10) and not loaded[3].wait(0.1)
    used.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_what_loading_raises_comes_with_its_batch():
    def load(number: int) -> int:
        if number == 2:
            raise ValueError("cannot be read")
        return number

    used = ahead(range(5), load)
    assert [next(used), next(used)] == [0, 1]
    with pytest.raises(ValueError, match="cannot be read"):
        next(used)
