"""Simulated clients' capacities and speakers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.partition import capacity_of, speakers_of


@given(st.integers(1, 60), st.integers(1, 6))
def test_uniform_gives_each_exit_as_many_clients(clients, exits):
    counts = Counter(capacity_of("uniform", i, clients, exits) for i in range(clients))
    assert set(counts) <= set(range(1, exits + 1))
    assert all(abs(counts[e] - clients / exits) <= 1 for e in range(1, exits + 1))


def test_shares_and_full():
    counts = Counter(capacity_of("0.5,0.3,0.2", i, 20, 3) for i in range(20))
    assert counts == {1: 10, 2: 6, 3: 4}
    assert {capacity_of("full", i, 7, 3) for i in range(7)} == {3}
    assert {capacity_of("0,1,0", i, 7, 3) for i in range(7)} == {2}


@pytest.mark.parametrize("capacities", ["", "all", "0.5,0.5", "1,-1,1", "0,0,0", "nan,1,1"])
def test_what_is_no_capacities_is_refused(capacities):
    with pytest.raises(ValueError, match="capacities: found"):
        capacity_of(capacities, 0, 4, 3)


@given(st.integers(1, 30), st.integers(1, 30))
def test_each_speaker_lives_on_one_client(speakers, clients):
    names = [f"s{i:02}" for i in range(speakers)]
    if clients > speakers:
        with pytest.raises(ValueError, match="num-supernodes"):
            speakers_of(names, 0, clients)
        return
    parts = [speakers_of(names, i, clients) for i in range(clients)]
    assert sorted(sum(parts, [])) == names
    assert min(map(len, parts)) >= 1
