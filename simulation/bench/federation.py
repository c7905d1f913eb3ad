"""Run ``ef-asr simulate`` as a user does, and measure its time and its server's memory."""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from server_app.run_folder import read_metrics
from simulation.superlink import stop_family

SERVER = "flwr-simulation"  # the process that runs the server app and hands out the messages
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes."""

    whole: float = 0.0  # with its libraries and the parts of Ray's object store that it touched
    private: float = 0.0  # allocated by the process itself

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Return the largest resident set so far, and the anonymous memory now, as Linux counts."""
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        values = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        return cls(*(1024.0 * int(values.get(key, ["0"])[0]) for key in ("VmHWM", "RssAnon")))

    def most(self, other: "Memory") -> "Memory":
        """Return the larger of each."""
        return Memory(max(self.whole, other.whole), max(self.private, other.private))


@dataclass(frozen=True)
class Federation:
    """A completed run."""

    rounds: list[dict[str, Any]]  # the records of metrics.jsonl
    seconds: float  # of the whole command
    server: Memory  # the largest of the server app's process


def simulated(*arguments: str) -> Federation:
    """Run ``ef-asr simulate`` with these arguments in a temporary folder.

    Raises
    ------
    RuntimeError
        If the run fails; with the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="ef-asr-bench-") as folder:
        output = Path(folder) / "run"
        command = [str(Path(sys.executable).parent / "ef-asr"), "simulate", *arguments]
        printed = Path(folder) / "printed"
        began = time.monotonic()
        with printed.open("wb") as file:
            run = subprocess.Popen(
                [*command, "--output", str(output)], stdout=file, stderr=subprocess.STDOUT
            )
            try:
                peak = _watch(run)
            finally:  # also after Ctrl-C
                stop_family(run)
        seconds = time.monotonic() - began
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{printed.read_text()[-3000:]}")
        return Federation(read_metrics(output / "metrics.jsonl"), seconds, peak)


def _watch(run: subprocess.Popen[bytes]) -> Memory:
    """Wait for the end of the run and return the most memory that its server process held."""
    server, peak = None, Memory()
    while run.poll() is None:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # just ended
            server = server or _server(run.pid)
            peak = peak.most(Memory.of(server.pid)) if server else peak
        time.sleep(LOOK_SECONDS)
    return peak


def _server(run: int) -> psutil.Process | None:
    for process in psutil.Process(run).children(recursive=True):
        if any(Path(part).name == SERVER for part in process.cmdline()[:2]):
            return process
    return None
