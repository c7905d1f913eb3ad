"""How long a one-round run takes to start, stage by stage, and how long the short commands take.

The stages are read from what every run leaves: its processes, ``log.jsonl`` and ``metrics.jsonl``.
The reference of a run is an empty Flower app on the same SuperLink: the time of Flower and Ray
alone. The reference of a command is an interpreter that imports the libraries it cannot do without.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

from server_app.run_folder import read_metrics
from simulation.bench.figure import Figure
from simulation.bench.simulate import longest
from simulation.run_config import defaults
from simulation.simulate import federation
from simulation.superlink import LocalSuperLink, stop_family

CLIENTS, UTTERANCES = 4, 8  # of a run, and of each of its clients
LOOK_SECONDS = 0.05
EF_ASR = str(Path(sys.executable).parent / "ef-asr")

# Each stage begins when a process appears whose command line starts with these words.
STAGES = {
    "flower-superlink": "the SuperLink starts",
    "flwr run": "the SuperLink answers, the app is submitted",
    "flwr-simulation": "the server app's process starts",
    "raylet": "Ray starts",
    "ray::ClientAppActor": "the first actor is up",
}
FIRST_TRAINING, ROUND_ENDS, ENDS = "first training", "round 1 ends", "the command ends"

EMPTY_PROJECT = """
[project]
name = "empty"
version = "1.0.0"
[tool.flwr.app]
publisher = "nobody"
[tool.flwr.app.components]
serverapp = "empty:server"
clientapp = "empty:client"
"""
EMPTY_APP = """
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()

@server.main()
def main(grid, context):
    nodes = []
    while not nodes:
        nodes = list(grid.get_node_ids())
    ask = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in nodes]
    list(grid.send_and_receive(ask))

@client.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)
"""


def run() -> list[Figure]:
    """Measure an empty app, a one-round run on the sample, and three commands."""
    with tempfile.TemporaryDirectory(prefix="ef-asr-bench-") as name:
        empty, output = Path(name) / "empty", Path(name) / "run"
        floor = empty_app(empty)
        stages = one_round(output)
        figures = [
            Figure(what, seconds, floor.get(what, floor[ENDS]), "s", reference_of(what, floor))
            for what, seconds in stages.items()
            if floor.get(what, 1) > 0  # the SuperLink is where the empty app's time begins
        ]
        return figures + commands(output, Path(name) / "speech.opus")


def reference_of(what: str, floor: dict[str, float]) -> str:
    """Return what a stage is compared with."""
    return "an empty Flower app" if what in floor else "an empty Flower app, its whole run"


def one_round(output: Path) -> dict[str, float]:
    """Return the seconds from the command to each stage of a run of ``CLIENTS`` clients."""
    keys = {
        "max-speakers": CLIENTS, "max-utterances": UTTERANCES, "min-train-nodes": CLIENTS,
        "fraction-train": 1.0,
    }  # fmt: skip
    command = [EF_ASR, "simulate", "--rounds", "1", "--output", str(output)]
    command += [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    began = time.time()
    stages = watch(command, output.with_suffix(".printed"), dict(os.environ))
    trained, ended = round_times(output)
    return {
        **{what: stages[what] for what in STAGES.values()},
        FIRST_TRAINING: trained - began,
        ROUND_ENDS: ended - began,
        ENDS: stages[ENDS],
    }


def round_times(output: Path) -> tuple[float, float]:
    """Return when the first training of round 1 began and when the round ended, in Unix time.

    ``log.jsonl`` says when the round ended. Its clients' training began as long before that as
    evaluating took, and as their training took on the cores there are.
    """
    lines = map(json.loads, (output / "log.jsonl").read_text(encoding="utf-8").splitlines())
    line = next(line for line in lines if line["message"].startswith("round 1/"))
    ended = datetime.fromisoformat(line["time"]).timestamp()
    record = read_metrics(output / "metrics.jsonl")[0]
    walls = [record["nodes"][name]["wall_seconds"] for name in record["nodes"]]
    training = longest(walls, len(os.sched_getaffinity(0)))
    return ended - record["evaluate-seconds"] - training, ended


def empty_app(folder: Path) -> dict[str, float]:
    """Return the seconds to each stage of a Flower app that does nothing."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(EMPTY_PROJECT, encoding="utf-8")
    (folder / "empty.py").write_text(EMPTY_APP, encoding="utf-8")
    began = time.monotonic()
    with LocalSuperLink(preload=False) as superlink:
        command = superlink.flwr("run", str(folder), "--stream")
        answered = time.monotonic() - began
        command += ["--federation-config", federation(CLIENTS, 0.0)]
        stages = watch(command, folder / "printed", superlink.environment, superlink.process)
    later = {what: answered + seconds for what, seconds in stages.items()}
    return {**later, STAGES["flower-superlink"]: 0.0, STAGES["flwr run"]: answered}


def watch(
    command: list[str],
    printed: Path,
    environment: dict[str, str],
    superlink: "subprocess.Popen[bytes] | None" = None,
) -> dict[str, float]:
    """Run a command and return the seconds until each stage's process appeared, and to its end.

    Parameters
    ----------
    command : list of str
        The program and its arguments.
    printed : Path
        The file for its output.
    environment : dict
        Its environment variables.
    superlink : Popen, optional
        A process whose descendants count too.

    Raises
    ------
    RuntimeError
        If the command fails; with the end of its output.
    """
    seconds: dict[str, float] = {}
    began = time.monotonic()
    with printed.open("wb") as file:
        run = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        while run.poll() is None:
            for process in (run, superlink) if superlink else (run,):
                for what in stages_of(process.pid) - seconds.keys():
                    seconds[what] = time.monotonic() - began
            time.sleep(LOOK_SECONDS)
    finally:  # also after Ctrl-C
        stop_family(run)
    if run.returncode:
        text = printed.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{' '.join(command)} failed:\n{text[-3000:]}")
    return {**seconds, ENDS: time.monotonic() - began}


def stages_of(pid: int) -> set[str]:
    """Return the stages whose processes run among a process's descendants."""
    stages = set()
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                stages.add(stage(process.cmdline()))
    return stages - {""}


def stage(command: list[str]) -> str:
    """Return the stage that a process with this command line belongs to, or ""."""
    if command and Path(command[0]).name.startswith("python"):
        command = command[1:]
    words = " ".join([Path(command[0]).name, *command[1:2]]) if command else ""
    return next((what for start, what in STAGES.items() if words.startswith(start)), "")


def commands(run_folder: Path, recording: Path) -> list[Figure]:
    """Return the seconds of the commands that should answer at once."""
    from efmodel.speech import corpus

    sample = corpus.load(str(defaults()["data"]), "").train
    recording.write_bytes(sample[0]["audio"]["bytes"])
    cases = [
        ("--help", [], "typer, rich"),
        ("report", [str(run_folder)], "typer, jinja2, matplotlib.figure"),
        ("transcribe", [str(recording), "--model", str(run_folder)], "torch, transformers"),
    ]
    return [
        Figure(
            f"ef-asr {name}",
            seconds([EF_ASR, name, *arguments]),
            seconds([sys.executable, "-c", f"import {libraries}"]),
            "s",
            f"importing {libraries}",
        )
        for name, arguments, libraries in cases
    ]


def seconds(command: list[str]) -> float:
    """Return the shortest of three runs of a command: the files are in memory by then."""
    taken = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.monotonic() - began)
    return min(taken)
