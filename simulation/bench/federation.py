"""A federation run by ``ef-asr simulate``, watched from outside: its rounds, time and memory."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from server_app.run_folder import read_metrics

SERVER = "flwr-simulation"  # the process that runs the server app and hands out the messages
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Federation:
    """One run, after it ended well."""

    rounds: list[dict[str, Any]]  # what metrics.jsonl says
    seconds: float  # of the whole command
    server_peak: float  # bytes, of the server app's process


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
            peak = _watch(run)
        seconds = time.monotonic() - began
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{said.read_text()[-3000:]}")
        return Federation(read_metrics(output / "metrics.jsonl"), seconds, peak)


def _watch(run: subprocess.Popen[bytes]) -> float:
    """Return the server process's peak memory in bytes, when the run has ended."""
    server, peak = None, 0.0
    while run.poll() is None:
        try:
            server = server or _server(run.pid)
            peak = max(peak, _peak(server.pid) if server else 0.0)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            pass  # it ended between two looks
        time.sleep(LOOK_SECONDS)
    return peak


def _server(run: int) -> psutil.Process | None:
    for process in psutil.Process(run).children(recursive=True):
        if any(Path(part).name == SERVER for part in process.cmdline()[:2]):
            return process
    return None


def _peak(pid: int) -> float:
    """Return a process's largest resident set so far: Linux keeps it, and nothing is missed."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return 1024.0 * int(line.split()[1])
    return 0.0
