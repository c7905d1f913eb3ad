"""Whole runs: real processes, real speech, the real ``flwr run``."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from efmodel import EarlyExitForCTC
from efmodel.speech import corpus, recordings
from server_app.run_folder import read_metrics
from simulation.superlink import LocalSuperLink, app_folder, run_id_in
from tests.conftest import write_folder
from tests.simulation.command import ef_asr, environment, processes, start

FAST = ["--set", "local-epochs=1", "--set", "fraction-train=1.0"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """A few seconds of the sample's voices: two utterances of four voices, two of a test voice."""
    sample = corpus.load("sample", "")
    root = tmp_path_factory.mktemp("speech")
    for half, voices in (("train", 4), ("test", 1)):
        dataset = getattr(sample, half)
        chosen = recordings.speakers(dataset)[:voices]
        (root / half).mkdir()
        with (root / half / "metadata.jsonl").open("w") as metadata:
            for speaker in chosen:
                numbers = [i for i, s in enumerate(dataset["speaker"]) if s == speaker][:2]
                for row in dataset.select(numbers):
                    name = row["audio"]["path"]
                    (root / half / name).write_bytes(row["audio"]["bytes"])
                    line = {"file_name": name, "text": row["text"], "speaker": speaker}
                    metadata.write(json.dumps(line) + "\n")
    return root


def test_simulate_trains_saves_plots_and_leaves_nothing_running(speech, tmp_path):
    done = ef_asr("simulate", "--data", str(speech), "--rounds", "2", *FAST, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    folder = Path(lines[-1])
    assert lines[0] == f"run folder: {folder}" and folder.parent == tmp_path / "runs"
    assert sum(line.startswith("round ") for line in lines) == 2

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
    assert not processes(tmp_path)

    recording = next((speech / "test").glob("*.opus"))
    heard = ef_asr("transcribe", str(recording), "--model", str(folder), cwd=tmp_path)
    assert heard.returncode == 0 and len(heard.stdout.splitlines()) == 1
    scored = ef_asr("evaluate", "--model", str(folder), "--data", str(speech), cwd=tmp_path)
    assert scored.returncode == 0 and "WER" in scored.stdout


def test_flwr_run_works_and_a_server_app_that_raises_is_a_failure(speech, tmp_path):
    with LocalSuperLink() as superlink:
        app = str(app_folder(superlink.home))

        def flwr_run(**keys) -> str:
            config = " ".join(f"{k.replace('_', '-')}={json.dumps(v)}" for k, v in keys.items())
            command = superlink.flwr("run", app, "--stream", "--run-config", config)
            done = subprocess.run(
                command, env=superlink.environment, capture_output=True, text=True, timeout=600,
                cwd=tmp_path,
            )  # fmt: skip
            run_id = run_id_in(done.stdout)
            assert run_id, done.stdout + done.stderr
            return superlink.status(run_id)

        keys = {"data": "audiofolder", "data_path": str(speech), "rounds": 1, "local_epochs": 1}
        assert flwr_run(output=str(tmp_path / "run"), **keys) == "finished:completed"
        assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["answered"] == 2
        assert flwr_run(model="no-such-model", **keys) == "finished:failed"


def test_exit_code_when_the_server_app_raises(speech, tmp_path):
    done = ef_asr("simulate", "--data", str(speech), "--set", "model=none", cwd=tmp_path)
    assert done.returncode == 1
    assert "model: found 'none', wanted one of tiny, small, paper, wav2vec2-base" in done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_dir()


def test_exit_code_when_no_client_ever_answers(tmp_path):
    train = write_folder(
        tmp_path / "d" / "train", [("a.wav", "one", "x", 1), ("b.wav", "two", "y", 1)]
    )
    for name in ("a.wav", "b.wav"):
        (train / name).write_text("no audio")
    done = ef_asr("simulate", "--data", str(tmp_path / "d"), cwd=tmp_path)
    assert done.returncode == 1
    assert "no client could be used in 3 rounds" in done.stderr
    assert "found no utterance to train on: no audio x1" in done.stderr
    said = (Path(done.stdout.splitlines()[-1]) / "simulate.log").read_text()
    assert "a.wav: found no readable audio" in said  # the client's own log names the file


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "/no/such/folder"], "data-path: found no folder /no/such/folder"),
        (["--data", "libri"], "data: found 'libri', wanted one of"),
        (["--set", "roundz=3"], "--set: found 'roundz=3', wanted KEY=VALUE, with KEY one of model"),
        (["--set", "lr=fast"], "lr: found 'fast', wanted float"),
        (["--rounds", "0"], "rounds: found 0, wanted a number from 1"),
        (["--nodes", "99"], "nodes: found 99, wanted at most 18, the number"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(arguments, complaint, tmp_path):
    done = ef_asr("simulate", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and complaint in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_and_kill_stop_the_run_and_all_its_processes(speech, tmp_path, signum):
    run = start("simulate", "--data", str(speech), "--rounds", "500", *FAST, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(processes(tmp_path)) > 3  # the command, a SuperLink, Ray and its clients
    run.send_signal(signum)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 130
    assert said.splitlines()[-1].startswith(str(tmp_path / "runs"))
    assert not processes(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_kill_stop_a_superlink_that_does_not_answer_yet(speech, tmp_path, signum):
    (tmp_path / "tmp").mkdir()
    never = "from simulation import superlink; superlink.HEALTH = '/no-such'; import efmodel.cli"
    arguments = ["simulate", "--data", str(speech)]
    run = start(*arguments, cwd=tmp_path, program=f"{never}; efmodel.cli.main()",
                TMPDIR=str(tmp_path / "tmp"))  # fmt: skip
    assert run.stdout.readline().startswith("run folder: ")
    assert len(processes(tmp_path)) >= 2  # the command and its SuperLink
    run.send_signal(signum)
    said, complaint = run.communicate(timeout=60)
    assert run.returncode == 130 and "interrupted: the run was stopped" in complaint
    assert said.splitlines()[-1].startswith(str(tmp_path / "runs"))
    assert not processes(tmp_path) and not list((tmp_path / "tmp").iterdir())
    assert not list(tmp_path.glob("runs/*/simulate.log"))  # nothing was run on it


def test_a_superlink_that_does_not_start_in_time_is_said_and_stopped(speech, tmp_path):
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
