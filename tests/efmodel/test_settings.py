"""The run config."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from efmodel.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]


def test_pyproject_and_settings_hold_the_same_defaults():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    ours = {f.name.replace("_", "-"): f.default for f in fields(Settings)}
    assert config == ours
    assert Settings.from_run_config(config) == Settings()


def test_the_readme_lists_every_key():
    readme = (ROOT / "README.md").read_text()
    for each in fields(Settings):
        assert f"| `{each.name.replace('_', '-')}` |" in readme, each.name


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("rounds", 0, "rounds: found 0, wanted a number from 1"),
        ("rounds", "ten", "rounds: found 'ten', wanted int"),
        ("rounds", True, "rounds: found True, wanted int"),
        ("lr", float("nan"), "lr: found nan"),
        ("fraction-train", 1.5, "fraction-train: found 1.5, wanted a share"),
        ("coverage", "all", "coverage: found 'all', wanted one of trainers, cohort"),
    ],
)
def test_a_bad_value_is_named(key, value, complaint):
    with pytest.raises(SettingsError, match=complaint):
        Settings.from_run_config({key: value})


def test_whole_numbers_do_for_floats():
    assert Settings.from_run_config({"batch-seconds": 60}).batch_seconds == 60.0


def test_local_noise_without_a_bound_is_refused():
    with pytest.raises(SettingsError, match="local-clip-norm: found 0.0, wanted .* above 0"):
        Settings.from_run_config({"local-epsilon": 0.5})
    assert Settings.from_run_config({"local-epsilon": 0.5, "local-clip-norm": 1}).local_epsilon
