"""A federation run by ``ef-asr simulate``, watched from outside: its rounds, time and memory."""

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

    whole: float = 0.0  # libraries, and Ray's object store as far as it was touched, included
    own: float = 0.0  # what the process allocated for itself

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Return its largest resident set so far, which Linux keeps, and what is its own now."""
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        said = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        return cls(*(1024.0 * int(said.get(key, ["0"])[0]) for key in ("VmHWM", "RssAnon")))

    def most(self, other: "Memory") -> "Memory":
        """Return the larger of each."""
        return Memory(max(self.whole, other.whole), max(self.own, other.own))


@dataclass(frozen=True)
class Federation:
    """One run, after it ended well."""

    rounds: list[dict[str, Any]]  # what metrics.jsonl says
    seconds: float  # of the whole command
    server: "Memory"  # the most that the server app's process held


def simulated(*arguments: str) -> Federation:
    """Run ``ef-asr simulate`` with these arguments in a folder that does not stay.

    Raises
    ------
    RuntimeError
        With the end of what it said, if it failed.
    """
    with tempfile.TemporaryDirectory(prefix="ef-asr-bench-") as folder:
        output = Path(folder) / "run"
        command = [str(Path(sys.executable).parent / "ef-asr"), "simulate", *arguments]
        said = Path(folder) / "said"
        began = time.monotonic()
        with said.open("wb") as file:
            run = subprocess.Popen(
                [*command, "--output", str(output)], stdout=file, stderr=subprocess.STDOUT
            )
            try:
                peak = _watch(run)
            finally:  # interrupted, say: nothing of it stays behind
                stop_family(run)
        seconds = time.monotonic() - began
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{said.read_text()[-3000:]}")
        return Federation(read_metrics(output / "metrics.jsonl"), seconds, peak)


def _watch(run: subprocess.Popen[bytes]) -> Memory:
    """Return the most memory that the server process held, when the run has ended."""
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
