"""Trackers of experiments: what is written is read back with their own reader."""

import logging
from contextlib import nullcontext

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from efmodel.settings import SettingsError
from server_app import trackers
from server_app.run_folder import RunFolder, read_metrics
from tests.server_app.test_rounds import node, rounds, start


def test_tensorboard_holds_every_round(tmp_path):
    run = rounds(tmp_path, node, rounds=3, evaluate_every=2)
    with trackers.tracking("tensorboard", run.folder, {}) as run.track:
        run.run(start())
    read = EventAccumulator(str(run.folder.path / "tensorboard"))
    read.Reload()
    wer = [(event.step, event.value) for event in read.Scalars("wer/exit-2")]
    assert wer == [(2, 0.25), (3, 0.25)]
    records = read_metrics(run.folder.metrics)
    up = [event.value for event in read.Scalars("bytes-up")]
    assert up == [record["bytes-up"] for record in records]
    assert [event.value for event in read.Scalars("trainers/exit-2")] == [2, 2, 2]


def test_a_tracker_that_fails_costs_its_round_and_no_more(tmp_path, monkeypatch, caplog):
    run = rounds(tmp_path, node, rounds=3)
    seen = []

    def unreliable(values, server_round):
        if server_round == 2:
            raise ConnectionError("no network")
        seen.append(server_round)

    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda folder, config: nullcontext(unreliable))
    monkeypatch.setattr(trackers, "check", lambda name: None)
    with caplog.at_level(logging.WARNING):
        with trackers.tracking("wandb", run.folder, {}) as run.track:
            run.run(start())
    assert seen == [1, 3] and len(read_metrics(run.folder.metrics)) == 3
    assert "tracker: round 2 is missing in wandb: no network" in caplog.text


def test_a_tracker_that_is_not_installed_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="found no package mlflow, wanted it: pip install"):
        with trackers.tracking("mlflow", RunFolder.create(tmp_path / "run"), {}):
            pass
    trackers.check("off")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_installed_trackers_take_a_run(tmp_path, monkeypatch, name):
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = rounds(tmp_path, node, rounds=2)
    with trackers.tracking(name, run.folder, {"lr": 0.003}) as run.track:
        run.run(start())
    if name == "mlflow":
        import mlflow

        (found,) = mlflow.search_runs(experiment_names=["ef-asr"], output_format="list")
        assert found.data.metrics["wer/exit-1"] == 0.25 and found.data.params["lr"] == "0.003"
    else:
        assert list(run.folder.path.glob("wandb/offline-run-*/run-*.wandb"))[0].stat().st_size
