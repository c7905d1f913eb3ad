"""A strategy of one's own, installed as a package; Flower's own; a run that is resumed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from server_app.run_folder import read_metrics
from tests.simulation.command import EF_ASR
from tests.simulation.test_run import FAST, speech  # noqa: F401  (a fixture)

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment in which the example plug-in is installed, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", str(folder), str(PLUGIN)], check=True,
    )  # fmt: skip
    return {**os.environ, "PYTHONPATH": str(folder)}


def simulate(environment, cwd, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [EF_ASR, "simulate", *FAST, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def test_an_installed_strategy_runs_by_name_and_resumes(speech, installed, tmp_path):  # noqa: F811
    own = ["--data", str(speech), "--rounds", "2", "--set", "strategy=calm"]
    own += ["--set", "strategy-options=patience=0.25", "--output", str(tmp_path / "run")]
    done = simulate(installed, tmp_path, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "run"
    last = load_file(folder / "checkpoints" / "round-00002.safetensors")
    directions = [name for name in last if name.startswith("moments/direction/")]
    assert len(directions) == sum(name.startswith("model/") for name in last)

    # One more round: the run's own config holds, without saying it again.
    done = simulate(installed, tmp_path, "--rounds", "3", "--set", f"resume={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("round ") == 1 and "round 3/3" in done.stdout
    assert [record["round"] for record in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3]
    assert "resuming after round 2" in (folder / "simulate.log").read_text()


def test_an_option_it_does_not_take_ends_the_run(speech, installed, tmp_path):  # noqa: F811
    own = ["--data", str(speech), "--set", "strategy=calm", "--set", "strategy-options=patience=7"]
    done = simulate(installed, tmp_path, *own)
    assert done.returncode == 1
    assert "strategy calm: patience: found 7" in done.stderr


def test_flowers_own_fedavg_wants_full_capacities(speech, tmp_path):  # noqa: F811
    own = ["--data", str(speech), "--rounds", "1"]
    own += ["--set", "strategy=flwr.serverapp.strategy:FedAvg"]
    full = ["--set", "capacities=full", "--set", "min-train-nodes=4"]
    done = simulate(os.environ, tmp_path, *own, *full)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = read_metrics(next(tmp_path.glob("runs/*/metrics.jsonl")))
    assert record["answered"] == 4 and record["trainers-per-exit"] == [4, 4, 4]
    assert record["bytes-down"] == record["bytes-down-full"]

    done = simulate(os.environ, tmp_path, *own)
    assert done.returncode == 1
    assert "sends whole models, but found" in done.stderr
    assert "wanted capacity 3 on every node (capacities=full), or a partial" in done.stderr
