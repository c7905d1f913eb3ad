"""The memory for decoded audio: never more than its bound, and what was used last stays."""

from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st

from efmodel.speech.memory import AudioMemory

FLOAT = 4  # bytes of a sample

keys = st.integers(0, 9).map(lambda number: bytes([number]))
requests = st.lists(st.tuples(keys, st.integers(0, 50)), max_size=60)


def samples(key: bytes, length: int) -> torch.Tensor:
    return torch.full((length,), float(key[0]))


@given(st.integers(0, 400), requests, st.integers(0, 400))
def test_it_never_exceeds_its_bound_and_gives_what_was_decoded(limit, asked, later):
    memory = AudioMemory(limit)
    for key, length in asked:
        length += 10 * key[0]  # a recording has one length, here one of a few
        found = memory.get(key, lambda k=key, n=length: samples(k, n))
        assert (found == key[0]).all()
        assert memory.held <= limit
    memory.limit = later
    assert memory.held <= later


def test_what_was_not_used_for_longest_goes_first():
    memory = AudioMemory(3 * 10 * FLOAT)
    decoded: list[bytes] = []

    def ask(key: bytes) -> None:
        def decode() -> torch.Tensor:
            decoded.append(key)
            return samples(key, 10)

        memory.get(key, decode)

    for key in (b"a", b"b", b"c", b"a", b"d", b"a", b"b"):
        ask(key)
    assert decoded == [b"a", b"b", b"c", b"d", b"b"]


def test_a_part_of_a_larger_tensor_counts_whole():
    memory = AudioMemory(100 * FLOAT)
    memory.put(b"a", torch.zeros(90)[:10])
    memory.put(b"b", torch.zeros(20))
    assert memory.held == 20 * FLOAT
    memory.put(b"too large", torch.zeros(101))
    assert memory.held == 20 * FLOAT


def test_threads_share_it():
    memory = AudioMemory(25 * 10 * FLOAT)
    wanted = [bytes([number % 40]) for number in range(4000)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda k: memory.get(k, lambda: samples(k, 10)), wanted))
    assert all((each == key[0]).all() for key, each in zip(wanted, found, strict=True))
    assert memory.held == 25 * 10 * FLOAT
