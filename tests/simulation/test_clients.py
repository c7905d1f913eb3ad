"""Runs that cannot succeed are refused before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import Wav2Vec2Config

from efmodel.errors import UserError
from efmodel.settings import Settings
from efmodel.speech import corpus, vocabulary
from server_app.strategy import registry
from simulation import clients
from simulation.simulate import simulate
from tests.conftest import write_folder
from tests.simulation.command import invoke

FEDPROX = "flwr.serverapp.strategy:FedProx"


@pytest.mark.parametrize(
    ("nodes", "changes", "complaint"),
    [
        (1, {}, "min-nodes: found 2, wanted at most 1, the number of clients"),
        (4, {"min_nodes": 9}, "min-nodes: found 9, wanted at most 4, the number of clients"),
        (
            4,
            {"select": "capacity>=3"},
            "min-nodes: found 2, wanted at most 1, the number of clients with capacity>=3",
        ),
        (4, {"select": "depth=1"}, "select: found 'depth=1', wanted conditions"),
        (
            2,
            {"strategy": FEDPROX, "capacities": "full"},
            "min-train-nodes: found 3, wanted at most 2, the number of clients: flwr",
        ),
        (
            4,
            {"strategy": FEDPROX, "min_train_nodes": 4},
            "capacities: found 'uniform', wanted 'full': flwr.serverapp.strategy:FedProx sends",
        ),
        (4, {"capacities": "0.5,0.5"}, "capacities: found '0.5,0.5', wanted .* 3 shares"),
        (4, {"model": "/no/such"}, "model: found"),
        (4, {"strategy": "partial-fedavgg"}, "strategy: found 'partial-fedavgg', wanted one of"),
    ],
)
def test_clients_that_cannot_begin_a_round_are_refused(nodes, changes, complaint):
    speech = corpus.load("sample", "").train
    with pytest.raises(UserError, match=complaint):
        clients.check(Settings(**changes), nodes, speech)


@pytest.mark.parametrize(
    ("nodes", "changes"),
    [
        (2, {}),
        (1, {"min_nodes": 1}),
        (4, {"strategy": FEDPROX, "min_train_nodes": 4, "capacities": "full"}),
        (3, {"strategy": FEDPROX, "capacities": "full"}),
        (4, {"capacities": "0.5,0.3,0.2", "select": "capacity=1", "max_utterances": 1}),
    ],
)
def test_clients_that_can_are_not(nodes, changes):
    speech = corpus.load("sample", "").train
    assert clients.check(Settings(**changes), nodes, speech) == []


def folder(path: Path, *damaged: str) -> Settings:
    """Return the run config of three speakers with two recordings each, some of them no audio."""
    names = [f"{speaker}{number}.wav" for speaker in "abc" for number in (1, 2)]
    write_folder(path, [(name, "one", name[0], 1.0) for name in names])
    for name in damaged:
        (path / name).write_text("no audio")
    return Settings(data="audiofolder", data_path=str(path))


def warnings_of(settings: Settings) -> list[str]:
    return clients.check(settings, 3, corpus.load(settings.data, settings.data_path).train)


def test_recordings_of_each_client_are_decoded(tmp_path):
    assert warnings_of(folder(tmp_path / "one", "a1.wav", "b1.wav", "c1.wav")) == []
    [warning] = warnings_of(folder(tmp_path / "speaker", "a1.wav", "b1.wav", "b2.wav"))
    assert "in 1 of 3 clients, such as partition 1 (b1.wav: found no readable audio" in warning
    everything = [f"{speaker}{number}.wav" for speaker in "abc" for number in (1, 2)]
    with pytest.raises(UserError, match=r"in any of 3 clients \(a1.wav: found no readable audio"):
        warnings_of(folder(tmp_path / "all", *everything))


def test_a_tokenizer_that_does_not_fit_its_model_is_found(tmp_path):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    config = Wav2Vec2Config(**sizes, vocab_size=30, architectures=["Wav2Vec2ForCTC"])
    config.save_pretrained(tmp_path / "model")
    vocabulary.tokenizer_from({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}).save_pretrained(
        tmp_path / "model"
    )
    settings = Settings(model=str(tmp_path / "model"))
    with pytest.raises(UserError, match="model: found a tokenizer of 4 tokens"):
        clients.check(settings, 4, corpus.load("sample", "").train)


def test_a_cache_that_cannot_be_written_is_found_if_it_is_needed(tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    speech = corpus.load("sample", "").train
    assert clients.check(Settings(), 4, speech) == []
    wanted = f"freeze: {tmp_path}/home/cache/ef-asr cannot be written .Not a directory"
    with pytest.raises(UserError, match=wanted):
        clients.check(Settings(freeze="frontend"), 4, speech)


@pytest.mark.parametrize(
    "change",
    [
        {"fraction_train": 1.0}, {"min_train_nodes": 4}, {"over_sample": 2.0},
        {"round_timeout": 60.0}, {"max_failed_rounds": 1}, {"coverage": "cohort"},
        {"weighting": "depth"}, {"wire_dtype": "int8"}, {"eta": 1.0}, {"server_momentum": 0.5},
        {"local_clip_norm": 1.0}, {"cache_mb": 0}, {"max_utterances": 8}, {"rounds": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_run_waits_for_no_check_where_nothing_can_be_refused(change):
    settings = Settings(**change)
    assert clients.is_plain(settings)
    registry.check(settings)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dp_noise_multiplier": 1.0}, "vocabulary: found 'auto'"),
        ({"dp_noise_multiplier": 1.0, "vocabulary": "en"}, "weighting: found 'examples'"),
        ({"dp_budget": 1.0}, "dp-budget: found 1.0, wanted 0"),
        ({"max_update_norm": "often"}, "max-update-norm: found 'often'"),
        ({"strategy_options": "pace=1"}, "pace"),
        ({"select": "room=3"}, "select: found 'room=3'"),
    ],
    ids=str,
)
def test_what_the_default_strategy_refuses_is_found_before_a_run_starts(change, complaint):
    with pytest.raises(UserError, match=complaint):
        clients.check(Settings(**change), 4, corpus.load("sample", "").train)


def test_what_is_refused_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(simulate, "--nodes", 1)
    assert done.exit_code == 2 and not list(tmp_path.glob("runs"))
    assert done.stderr == "min-nodes: found 2, wanted at most 1, the number of clients\n"


def test_what_a_vocabulary_loses_is_said_before_a_run(tmp_path):
    names = [f"{speaker}{number}.wav" for speaker in "abc" for number in (1, 2)]
    write_folder(tmp_path / "d", [(name, "خلف", name[0], 1.0) for name in names])
    settings = Settings(data="audiofolder", data_path=str(tmp_path / "d"))
    assert warnings_of(settings) == []
    assert warnings_of(replace(settings, vocabulary="ar")) == []
    (lost,) = warnings_of(replace(settings, vocabulary="characters:خل"))
    assert lost.startswith("vocabulary: loses 33.3% of 18 letters")
    with pytest.raises(UserError, match="found no recording to train on in any of 3 clients"):
        warnings_of(replace(settings, vocabulary="en"))
    with pytest.raises(UserError, match="vocabulary: found no text in UTF-8 in /no/such.txt"):
        warnings_of(replace(settings, vocabulary="/no/such.txt"))
