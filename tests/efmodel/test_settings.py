"""The run config."""

import tomllib
from dataclasses import fields
from itertools import groupby
from pathlib import Path

import pytest

from efmodel.settings import (
    Settings,
    SettingsError,
    checked,
    from_version_0_1_0,
    keys,
    mask_sizes,
)

ROOT = Path(__file__).parents[2]


def test_pyproject_and_settings_hold_the_same_defaults():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    ours = {f.name.replace("_", "-"): f.default for f in fields(Settings)}
    assert config == ours
    assert Settings.from_run_config(config) == Settings()


def test_every_key_has_a_topic_and_a_meaning_and_topics_are_not_split():
    topics = [key.topic for key in keys().values()]
    assert [topic for topic, _ in groupby(topics)] == list(dict.fromkeys(topics))
    for key in keys().values():
        assert key.topic and key.meaning.endswith("."), key.name
        assert key.check is None or key.check.holds(key.default), key.name


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("rounds", 0, "rounds: found 0, wanted a number from 1"),
        ("rounds", "ten", "rounds: found 'ten', wanted a whole number"),
        ("rounds", True, "rounds: found True, wanted a whole number"),
        ("lr", float("nan"), "lr: found nan"),
        ("fraction-train", 1.5, "fraction-train: found 1.5, wanted a share"),
        ("relay", 0, "relay: found 0, wanted a number from 1"),
        ("lr-warmup", 1.0, "lr-warmup: found 1.0, wanted a number from 0, below 1"),
        ("lr-layer-decay", 0.0, "lr-layer-decay: found 0.0, wanted a share above 0, up to 1"),
        ("personal", "adapters", "personal: found 'adapters', wanted one of off, heads, lora, all"),
        ("coverage", "all", "coverage: found 'all', wanted one of trainers, cohort"),
        ("coverage", "trainer", "wanted one of trainers, cohort; did you mean 'trainers'?"),
        ("masks", "band:3", "masks: found 'band:3', wanted model, off, or a list such as bands:20"),
        ("masks", "bands:-1", "masks: found 'bands:-1', wanted model"),
        ("masks", "time:1.5", "masks: found 'time:1.5', wanted model"),
        ("masks", "", "masks: found '', wanted model"),
        ("vocabulary", "germn", "vocabulary: found 'germn', wanted auto, a language such as de"),
        ("language", "d", "language: found 'd', wanted a code such as de"),
        ("case", "lower", "case: found 'lower', wanted one of fold, keep"),
    ],
)
def test_a_bad_value_is_named(key, value, complaint):
    with pytest.raises(SettingsError, match=complaint):
        Settings.from_run_config({key: value})


def test_a_key_that_does_not_exist_is_named_with_the_nearest_one():
    with pytest.raises(SettingsError, match="found 'roundz', .*; did you mean 'rounds'?"):
        checked("roundz", 3)
    assert Settings.from_run_config({"of another program": 3}) == Settings()


def test_masks_change_the_fields_of_the_listed_kinds_only():
    assert mask_sizes("model") == {}
    assert set(mask_sizes("off").values()) == {0} and len(mask_sizes("off")) == 4
    assert mask_sizes("bands:20, time:0.05") == {"mask_mel_bins": 20, "mask_time_prob": 0.05}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"exit-loss": "weighted", "lr": 1.0}, {"exit-loss": "linear", "lr": 1.0}),
        ({"cache": False, "cache-mb": 4096}, {"cache-mb": 0}),
        ({"cache": True, "cache-mb": 100}, {"cache-mb": 100}),
        ({"mask-bands": -1, "mask-frames": -1, "mask-time-prob": -1.0}, {}),
        (
            {"mask-bands": 0, "mask-frames": -1, "mask-time-prob": 0.1},
            {"masks": "bands:0,time:0.1"},
        ),
        ({"masks": "off", "exit-loss": "mean"}, {"masks": "off", "exit-loss": "mean"}),
    ],
    ids=str,
)
def test_a_run_config_of_version_0_1_0_is_translated(old, new):
    assert from_version_0_1_0(old) == new
    Settings.from_run_config(from_version_0_1_0(old))


def test_whole_numbers_do_for_floats():
    assert Settings.from_run_config({"batch-seconds": 60}).batch_seconds == 60.0


def test_local_noise_without_a_bound_is_refused():
    with pytest.raises(SettingsError, match="local-clip-norm: found 0.0, wanted .* above 0"):
        Settings.from_run_config({"local-epsilon": 0.5})
    assert Settings.from_run_config({"local-epsilon": 0.5, "local-clip-norm": 1}).local_epsilon
