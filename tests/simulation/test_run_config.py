"""A run config: defaults, then the preset or the resumed run, then overrides."""

import json

import pytest

from efmodel.settings import SettingsError
from simulation.run_config import defaults, run_config


def test_overrides_come_before_a_preset_and_that_before_the_defaults():
    preset = {"lr": 0.5, "capacities": "full"}
    config = run_config(["lr=2", "model=RUN/model", "cache=false"], preset)
    changed = {"lr": 2, "model": "RUN/model", "cache": False, "capacities": "full"}
    assert config == defaults() | changed


def test_a_resumed_run_keeps_its_own_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lr": 0.5, "rounds": 7, "of old": 1}))
    config = run_config([f"resume={tmp_path}", "rounds=9"], {"lr": 0.1})
    assert config == defaults() | {"lr": 0.5, "rounds": 9, "resume": str(tmp_path)}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("roundz=3", "--set: found 'roundz=3', wanted KEY=VALUE, with KEY one of model"),
        ("rounds", "--set: found 'rounds', wanted KEY=VALUE"),
        ("lr=fast", "lr: found 'fast', wanted float"),
    ],
)
def test_an_override_that_cannot_be_is_refused(override, complaint):
    with pytest.raises(SettingsError, match=complaint):
        run_config([override])


def test_a_folder_without_a_run_is_not_resumed(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no config.json"):
        run_config([f"resume={tmp_path}"])
