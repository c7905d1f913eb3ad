"""Batches by seconds."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from efmodel.speech.batches import batches


@dataclass(frozen=True)
class Item:
    number: int
    seconds: float


lengths = st.lists(st.floats(0.1, 40), max_size=60)


@given(lengths, st.floats(1, 60), st.integers(0, 99), st.none() | st.integers(1, 9))
def test_every_item_once_and_no_batch_too_long(seconds, batch_seconds, seed, most):
    items = [Item(i, s) for i, s in enumerate(seconds)]
    result = batches(items, batch_seconds, seed, most)
    assert sorted(i.number for batch in result for i in batch) == list(range(len(items)))
    for batch in result:
        padded = max(item.seconds for item in batch) * len(batch)
        assert padded <= batch_seconds or len(batch) == 1
        assert most is None or len(batch) <= most
    assert result == batches(items, batch_seconds, seed, most)


def test_like_lengths_go_together_and_the_seed_decides_the_order():
    items = [Item(i, 1.0 + i % 10) for i in range(200)]
    result = batches(items, 40, seed=1)
    padded = sum(max(i.seconds for i in b) * len(b) for b in result)
    assert padded < 1.15 * sum(i.seconds for i in items)
    assert result != batches(items, 40, seed=2)
