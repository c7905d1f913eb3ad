"""Whole runs with real processes and real speech, through ``flwr run`` (``pytest -m programs``).

One run of ``ef-asr simulate`` serves all tests of what a finished run leaves.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from efmodel import EarlyExitForCTC
from server_app import run_lock
from server_app.run_folder import read_metrics
from simulation.simulate import simulate
from simulation.superlink import LocalSuperLink, app_folder, run_id_in
from tests.simulation.command import ef_asr, environment, invoke, processes, start

pytestmark = pytest.mark.programs

SLOW = pytest.mark.slow
FAST = ["--set", "local-epochs=1", "--set", "fraction-train=1.0"]


@pytest.fixture(scope="module")
def with_plugin(plugin) -> dict[str, str]:
    """Return the variable with which a process sees the installed plug-in."""
    paths = [str(plugin), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def hostile(folder: Path) -> dict[str, str]:
    """Return variables of a machine on which nothing but the run itself works.

    Proxies that are dead, a home that is none, a temporary folder with a path too long for a
    socket, in it what a Ray left that has died.
    """
    (folder / "home").touch()
    temporary = folder / ("x" * 85)
    (temporary / "ray").mkdir(parents=True)
    (temporary / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    return {**proxies, "HOME": str(folder / "home" / "me"), "TMPDIR": str(temporary)}


@pytest.fixture(scope="module")
def finished(speech, with_plugin, tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """Run two rounds of four clients under the example plug-in's strategy, on a hostile machine."""
    cwd = tmp_path_factory.mktemp("finished")
    calm = ["--set", "strategy=calm", "--set", 'strategy-options=patience="0.25"']
    done = ef_asr(
        "simulate", "--data", str(speech), "--rounds", "2", *FAST, *calm,
        cwd=cwd, **with_plugin, **hostile(cwd),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder(finished) -> Path:
    """Return the finished run's folder."""
    return Path(finished.stdout.splitlines()[-1])


def test_a_run_prints_its_rounds_and_leaves_nothing_behind(finished, folder):
    lines = finished.stdout.splitlines()
    assert lines[0] == f"run folder: {folder}" and folder.parent.name == "runs"
    assert sum(line.startswith("round ") for line in lines) == 2
    assert not processes(folder.parents[1])
    assert not list(folder.parents[1].glob("x*/ef-asr-*"))  # its temporary folder


def test_what_has_an_end_is_not_resumed_and_what_is_under_way_is_not_joined(
    folder, plugin, monkeypatch
):
    monkeypatch.syspath_prepend(plugin)
    again = ["--set", f"resume={folder}"]
    done = invoke(simulate, *again)
    assert done.exit_code == 0 and done.stdout == f"{folder}\n"
    assert done.stderr.startswith("resume: found 2 of 2 rounds done, nothing is left to do")
    with run_lock.held(folder):
        done = invoke(simulate, "--rounds", 3, *again)
    under_way = f"{folder}: found a run under way (process {os.getpid()} on"
    assert done.exit_code == 2 and done.stderr.startswith(under_way)


def test_a_run_leaves_metrics_a_plot_and_a_model_that_can_be_cut(folder):
    records = read_metrics(folder / "metrics.jsonl")
    assert [(r["sampled"], r["answered"], r["failed"]) for r in records] == [(4, 4, 0)] * 2
    assert sorted(records[0]["capacities"].values()) in ([1, 1, 2, 3], [1, 2, 2, 3], [1, 2, 3, 3])
    assert len(records[1]["wer"]) == 3 and len(records[1]["clients"]["train-loss"]) == 3
    assert records[0]["bytes-down"] < records[0]["bytes-down-full"]
    assert json.loads((folder / "config.json").read_text())["rounds"] == 2
    assert (folder / "wer.png").stat().st_size > 5000
    model = EarlyExitForCTC.from_pretrained(folder / "model")
    assert model.cut(1).config.num_hidden_layers == 2
    assert len(AutoTokenizer.from_pretrained(folder / "model")) == model.config.vocab_size


def test_a_run_folder_transcribes_and_is_evaluated(folder, speech, tmp_path):
    recording = next((speech / "test").glob("*.opus"))
    heard = ef_asr("transcribe", str(recording), "--model", str(folder), cwd=tmp_path)
    assert heard.returncode == 0 and len(heard.stdout.splitlines()) == 1
    scored = ef_asr("evaluate", "--model", str(folder), "--data", str(speech), cwd=tmp_path)
    assert scored.returncode == 0 and "WER" in scored.stdout
    # Nobody holds speech out of two utterances, so nobody counted when to stop.
    assert "no client with the whole model counted" in (folder / "log.jsonl").read_text()
    assert not (folder / "adaptive.json").exists() and "auto" not in scored.stdout


@pytest.mark.parametrize(
    "signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_resumed_run_has_its_moments_and_ctrl_c_and_kill_stop_all_its_processes(
    folder, with_plugin, tmp_path, signum
):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    last = load_file(run / "checkpoints" / "round-00002.safetensors")
    directions = [name for name in last if name.startswith("moments/direction/")]
    assert len(directions) == sum(name.startswith("model/") for name in last)

    # Many more rounds: the run's config is kept and need not be given again.
    again = ["simulate", "--rounds", "500", "--set", f"resume={run}"]
    resumed = start(*again, cwd=tmp_path, **with_plugin)
    deadline = time.monotonic() + 500
    while len(read_metrics(run / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(processes(tmp_path)) > 3  # the command, a SuperLink, Ray and its clients
    resumed.send_signal(signum)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 130
    assert output.splitlines()[-1] == str(run)
    assert not processes(tmp_path)
    assert "round 2/500" not in output and output.count("round 3/500") == 1
    rounds = [record["round"] for record in read_metrics(run / "metrics.jsonl")]
    assert rounds[:3] == [1, 2, 3] and rounds == sorted(set(rounds))
    assert "resuming after round 2" in (run / "simulate.log").read_text()


def test_flwr_run_works_and_so_does_a_strategy_of_flowers_own(speech, tmp_path):
    keys = {
        "data": "audiofolder", "data-path": str(speech), "rounds": 1, "local-epochs": 1,
        "strategy": "flwr.serverapp.strategy:FedAvg", "capacities": "full", "min-train-nodes": 2,
        "output": str(tmp_path / "run"),
    }  # fmt: skip
    config = " ".join(f"{key}={json.dumps(value)}" for key, value in keys.items())
    with LocalSuperLink() as superlink:
        app = str(app_folder(superlink.home))
        done = subprocess.run(
            superlink.flwr("run", app, "--stream", "--run-config", config),
            env=superlink.environment, capture_output=True, text=True, timeout=600, cwd=tmp_path,
        )  # fmt: skip
        run_id = run_id_in(done.stdout)
        assert run_id, done.stdout + done.stderr
        assert superlink.status(run_id) == "finished:completed", done.stdout
    [record] = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert record["answered"] == 2 and record["trainers-per-exit"] == [2, 2, 2]
    assert record["bytes-down"] == record["bytes-down-full"]


def test_a_run_that_trained_nothing_ends_with_1_and_says_why(speech, tmp_path):
    diverging = ["--set", "lr=1e30", "--set", "local-epochs=3"]
    done = ef_asr("simulate", "--data", str(speech), "--rounds", "1", *diverging, cwd=tmp_path)
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    assert first.startswith("the run failed: no client could be used in 1 round (partition ")
    assert "found a loss of nan" in first
    folder = Path(done.stdout.splitlines()[-1])
    assert f"the end of its log, {folder / 'simulate.log'}:" in done.stderr
    assert not (folder / "model").exists() and "model:" not in done.stdout


def test_a_refused_command_is_exit_code_2_and_leaves_no_folder(tmp_path):
    done = ef_asr("simulate", "--data", "/no/such/folder", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("data-path: found no folder /no/such/folder")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "signum",
    [signal.SIGHUP, *(pytest.param(s, marks=SLOW) for s in (signal.SIGINT, signal.SIGTERM))],
)
def test_signals_stop_a_superlink_that_does_not_answer_yet(speech, tmp_path, signum):
    (tmp_path / "tmp").mkdir()
    never = "from simulation import superlink; superlink.HEALTH = '/no-such'; import efmodel.cli"
    arguments = ["simulate", "--data", str(speech)]
    run = start(*arguments, cwd=tmp_path, program=f"{never}; efmodel.cli.main()",
                TMPDIR=str(tmp_path / "tmp"))  # fmt: skip
    assert run.stdout.readline().startswith("run folder: ")
    assert len(processes(tmp_path)) >= 2  # the command and its SuperLink
    for _ in range(3):  # people are impatient
        run.send_signal(signum)
        time.sleep(0.2)
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and "interrupted: the run was stopped" in errors
    assert output.splitlines()[-1].startswith(str(tmp_path / "runs"))
    assert not processes(tmp_path) and not list((tmp_path / "tmp").iterdir())
    assert not list(tmp_path.glob("runs/*/simulate.log"))  # the app was not started


def test_a_superlink_that_does_not_start_in_time_is_reported_and_stopped(speech, tmp_path):
    (tmp_path / "tmp").mkdir()
    impatient = "from simulation import superlink; superlink.START_SECONDS = 0; import efmodel.cli"
    command = [sys.executable, "-c", f"{impatient}; efmodel.cli.main()", "simulate"]
    done = subprocess.run(
        [*command, "--data", str(speech), "--output", str(tmp_path / "run")],
        env={**environment(tmp_path), "TMPDIR": str(tmp_path / "tmp")}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and "the SuperLink did not start:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes(tmp_path) and not list((tmp_path / "tmp").iterdir())
