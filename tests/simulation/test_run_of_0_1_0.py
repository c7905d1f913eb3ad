"""A run that version 0.1.0 wrote: its folder is read, and it is resumed.

``tests/data/run-0.1.0`` holds two rounds of partial-fedadam, written by that version with keys and
values that are no more (``exit-loss = "weighted"``, ``cache``, four keys ``mask-*``).
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from typer.testing import CliRunner

from client_app import app
from efmodel.cli import build
from server_app.checkpoint import Checkpoint, Checkpoints
from server_app.federation import federate
from server_app.results.run import Run
from server_app.run_folder import read_metrics
from simulation.in_process_grid import LocalGrid
from simulation.run_config import run_config

STORED = Path(__file__).parents[1] / "data" / "run-0.1.0"
NODES = 4


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "run"))


def test_the_stored_run_is_of_version_0_1_0():
    config = json.loads((STORED / "config.json").read_text())
    assert config["exit-loss"] == "weighted" and {"cache", "mask-bands"} <= config.keys()
    model = json.loads((STORED / "model" / "config.json").read_text())
    assert model["exit_loss"] == "weighted"


def test_it_is_resumed_with_its_optimizer_s_moments(run):
    config = run_config([f"resume={run}", f"model={run / 'model'}", "rounds=3"])
    assert config["exit-loss"] == "linear" and config["masks"] == "model"
    assert config["strategy"] == "partial-fedadam" and config["max-utterances"] == 6

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"partition-id": node - 1, "num-partitions": NODES}
        return app(message, Context(1, node, place, RecordDict(), config))

    before = Checkpoints(run / "checkpoints").latest()
    stored = read_metrics(run / "metrics.jsonl")
    folder = federate(LocalGrid(play, range(1, NODES + 1)), Context(1, 0, {}, RecordDict(), config))
    rounds = read_metrics(folder.metrics)
    assert [record["round"] for record in rounds] == [1, 2, 3] and rounds[:2] == stored
    assert rounds[2]["answered"] == NODES and rounds[2]["failed"] == 0
    assert len(rounds[2]["cer"]) == 2

    after = Checkpoints(run / "checkpoints").latest()
    assert before is not None and after is not None and (before.round, after.round) == (2, 3)
    moments = {kind: after.moments[kind].keys() for kind in after.moments}
    assert moments and moments == {kind: before.moments[kind].keys() for kind in before.moments}
    assert_moments_went_on(before, after)

    assert json.loads(folder.config.read_text())["exit-loss"] == "linear"
    assert folder.report.is_file() and folder.plot.is_file()


def assert_moments_went_on(before: Checkpoint, after: Checkpoint) -> None:
    """FedAdam's second moment decays by beta-2 = 0.99 a round: started anew, it would be less."""
    for name, old in before.moments["v"].items():
        assert np.all(after.moments["v"][name] >= 0.989 * old), name
    for name, steps in before.moments["steps"].items():  # every tensor has trainers
        assert np.all(after.moments["steps"][name] == steps + 1), name


def test_its_report_and_its_model_are_read(run, tmp_path):
    done = CliRunner().invoke(build(), ["report", str(run)])
    assert done.exit_code == 0, done.output
    page = (run / "report.html").read_text()
    assert "2 of 2 rounds" in page
    assert "linear" in page and "mask-bands" not in page  # the run config in today's keys
    other = shutil.copytree(run, tmp_path / "other")
    done = CliRunner().invoke(
        build(), ["report", str(run), str(other), "--output", str(tmp_path / "both")]
    )
    assert done.exit_code == 0, done.output
    read = Run.read(run)
    assert read.config["exit-loss"] == "linear" and read.finished
    assert read.exit_layers == [1, 2]
