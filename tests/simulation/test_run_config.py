"""A run config: defaults, then the preset or the resumed run, then overrides."""

import json

import pytest
from flwr.common.config import parse_config_args

from efmodel.settings import SettingsError
from server_app.run_folder import RunFolderError
from simulation.run_config import defaults, run_config, to_toml


def test_overrides_come_before_a_preset_and_that_before_the_defaults():
    preset = {"lr": 0.5, "capacities": "full"}
    config = run_config(["lr=2", "model=RUN/model", "compile=true"], preset)
    changed = {"lr": 2, "model": "RUN/model", "compile": True, "capacities": "full"}
    assert config == defaults() | changed


def test_a_resumed_run_keeps_its_own_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lr": 0.5, "rounds": 7, "of old": 1}))
    config = run_config([f"resume={tmp_path}", "rounds=9"], {"lr": 0.1})
    assert config == defaults() | {"lr": 0.5, "rounds": 9, "resume": str(tmp_path)}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("roundz=3", "--set: found 'roundz', wanted a key .*; did you mean 'rounds'?"),
        ("rounds=0", "--set: rounds: found 0, wanted a number from 1"),
        ("compile=yes", "--set: compile: found 'yes', wanted true or false"),
        ("rounds", "--set: found 'rounds', wanted KEY=VALUE"),
        ("lr=fast", "lr: found 'fast', wanted a number"),
    ],
)
def test_an_override_that_cannot_be_is_refused(override, complaint):
    with pytest.raises(SettingsError, match=complaint):
        run_config([override])


def test_a_resumed_run_of_version_0_1_0_keeps_its_old_keys(tmp_path):
    old = {"exit-loss": "weighted", "cache": False, "mask-bands": 5, "mask-frames": -1}
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = run_config([f"resume={tmp_path}"])
    new = {"exit-loss": "linear", "cache-mb": 0, "masks": "bands:5", "resume": str(tmp_path)}
    assert config == defaults() | new


def test_a_folder_without_a_run_is_not_resumed(tmp_path):
    with pytest.raises(RunFolderError, match="found no config.json"):
        run_config([f"resume={tmp_path}"])


@pytest.mark.parametrize(
    "value",
    [
        'tag="kitchen"', "name='a b'", "C:\\new\\tmp", "/home/\U0001f600/speech", "two\nlines",
        "a\x7fb\x01", "[table]", "# no comment", "x = 1", "",
    ],
)  # fmt: skip
def test_flower_reads_every_value_as_it_was_given(tmp_path, value):
    """Handed over as a file: Flower's ``--run-config`` KEY=VALUE does not carry quotes and more."""
    config = {**defaults(), "select": value, "lr": 1e-5, "rounds": 3, "compile": True}
    file = tmp_path / "run-config.toml"
    file.write_bytes(to_toml(config))
    assert parse_config_args([str(file)]) == config


def test_text_that_is_no_unicode_is_refused():
    """A file name that is not UTF-8."""
    with pytest.raises(SettingsError, match="data-path: found '/d/.*', wanted text in UTF-8"):
        to_toml({"data-path": "/d/\udcff"})
