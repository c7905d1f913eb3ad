"""Simulated clients' capacities, speakers and utterances."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.partition import capacity_of, speakers_of, utterances_of
from efmodel.settings import Settings, SettingsError


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


SPEAKERS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=80)
KINDS = ["speaker", "speaker:3", "iid", "dirichlet:0.001", "dirichlet:0.5", "dirichlet:1000"]


@given(SPEAKERS, st.integers(1, 40), st.sampled_from(KINDS), st.integers(0, 99))
def test_every_utterance_lives_on_one_client_and_no_client_is_empty(speakers, clients, kind, seed):
    most = {
        "speaker": len(set(speakers)),
        "speaker:3": sum(min(3, number) for number in Counter(speakers).values()),
    }
    if clients > most.get(kind, len(speakers)):
        with pytest.raises(ValueError, match="num-supernodes: found"):
            utterances_of(kind, speakers, 0, clients, seed)
        return
    parts = [utterances_of(kind, speakers, i, clients, seed) for i in range(clients)]
    assert sorted(sum(parts, [])) == list(range(len(speakers)))
    assert min(map(len, parts)) >= 1
    assert parts == [utterances_of(kind, speakers, i, clients, seed) for i in range(clients)]
    if kind == "iid":
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_clients_of_one_speaker_hold_as_much_and_the_seed_says_who_is_whose():
    speakers = [f"s{i % 6}" for i in range(600)]
    parts = [utterances_of("speaker:3", speakers, i, 18, 0) for i in range(18)]
    assert {len(part) for part in parts} <= {33, 34}
    voices = [{speakers[i] for i in part} for part in parts]
    assert all(len(voice) == 1 for voice in voices)
    assert Counter(min(voice) for voice in voices) == dict.fromkeys(set(speakers), 3)
    others = [utterances_of("speaker:3", speakers, i, 18, 1) for i in range(18)]
    assert voices != [{speakers[i] for i in part} for part in others]


def test_alpha_says_how_mixed_clients_are_and_the_seed_which():
    speakers = [f"s{i % 10}" for i in range(1000)]

    def speakers_a_client(kind, seed=0):
        parts = [utterances_of(kind, speakers, i, 10, seed) for i in range(10)]
        return sum(len({speakers[i] for i in part}) for part in parts) / 10

    assert speakers_a_client("speaker") == 1
    assert speakers_a_client("dirichlet:0.05") < 5 < speakers_a_client("dirichlet:100")
    assert speakers_a_client("iid") == 10
    for kind in ("iid", "dirichlet:0.5"):
        first, second = (utterances_of(kind, speakers, 0, 10, seed) for seed in (0, 1))
        assert first != second


@pytest.mark.parametrize(
    "kind",
    ["", "age", "dirichlet", "dirichlet:x", "dirichlet:0", "iid:2", "speaker:1", "speaker:2.5"],
)
def test_what_is_no_partition_is_refused(kind):
    with pytest.raises(ValueError, match="partition: found"):
        utterances_of(kind, ["a"], 0, 1, 0)
    with pytest.raises(SettingsError, match="partition: found .* wanted speaker, speaker:N"):
        Settings.from_run_config({"partition": kind})
