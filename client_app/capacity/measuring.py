"""What a training step costs on this machine, exit by exit.

Each exit is measured in a process of its own (``client_app.capacity.trial_step``), whose memory is
watched: whatever a step wants, the process that asks lives on.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO

import psutil

from efmodel.settings import Settings

POLL = 0.02  # seconds between looks at a process; one touches new memory at about 1 GB a second
PATIENCE = 900.0  # seconds for one exit; a device that needs longer is of no use in any round


class MeasuringError(RuntimeError):
    """A step that failed for another reason than this machine's strength."""


@dataclass(frozen=True)
class Budget:
    """What training may take: the process's MB, and seconds per second of audio (0: any)."""

    memory_mb: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a training step of the model cut at ``exit`` took.

    Attributes
    ----------
    exit : int
        From 1.
    parameters : int
        Of the cut model; 0 if the process did not get that far.
    seconds : float
        Of a step, per second of audio; 0 where none was finished.
    peak_mb : float
        Of the process, Python and torch included.
    obstacle : str
        Why it does not fit, if it does not.
    """

    exit: int
    parameters: int
    seconds: float
    peak_mb: float
    obstacle: str = ""


def measure(model_config: str, settings: Settings, budget: Budget) -> Iterator[Cost]:
    """Yield the cost of each exit, shallow to deep, up to the first that does not fit.

    Parameters
    ----------
    model_config : str
        The whole model's configuration as JSON.
    settings : Settings
        What the run trains, and how; ``client_app.capacity.trial_step`` says on what.
    budget : Budget
        What a step may take.

    Raises
    ------
    MeasuringError
        If a step fails for another reason than memory or time.
    """
    for exit in range(1, len(json.loads(model_config)["exit_layers"]) + 1):
        cost = measure_exit(model_config, settings, exit, budget)
        yield cost
        if cost.obstacle:
            return


def measure_exit(model_config: str, settings: Settings, exit: int, budget: Budget) -> Cost:
    """Return the cost of one exit; see ``measure``."""
    job = {"config": model_config, "settings": asdict(settings), "exit": exit}
    # The app's code may be a copy that only this process's path knows.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "client_app.capacity.trial_step"],
            stdin=subprocess.PIPE, stdout=told, stderr=said, env=environment,
        )  # fmt: skip
        try:
            peak_mb, obstacle = _watch(process, json.dumps(job).encode(), budget)
        finally:
            process.kill()
            process.wait()
        found = _lines(told)
        if process.returncode > 0:
            raise MeasuringError(f"measuring exit {exit}: {_last_line(said)}")
    obstacle = obstacle or str(found.get("obstacle", ""))
    if process.returncode < 0 and not obstacle:
        obstacle = f"the system killed it (signal {-process.returncode}), most likely for memory"
    peak_mb = max(peak_mb, float(found.get("peak_mb", 0.0)))
    seconds = float(found.get("seconds", 0.0))
    if not obstacle and peak_mb > budget.memory_mb:
        obstacle = _too_much(peak_mb, budget)
    if not obstacle and 0 < budget.seconds < seconds:
        obstacle = f"{seconds:.3g} s per second of audio, more than {budget.seconds:g}"
    return Cost(exit, int(found.get("parameters", 0)), seconds, round(peak_mb, 1), obstacle)


def _watch(process: subprocess.Popen[bytes], job: bytes, budget: Budget) -> tuple[float, str]:
    """Wait for a process; return the most MB it was seen with, and why it had to be stopped."""
    assert process.stdin is not None
    try:
        process.stdin.write(job)
        process.stdin.close()
    except BrokenPipeError:  # it ended before it read: its exit status says so
        pass
    began, peak = time.monotonic(), 0.0
    seen = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            break
        if peak > budget.memory_mb:
            return peak, _too_much(peak, budget)
        if time.monotonic() - began > PATIENCE:
            return peak, f"not done in {PATIENCE:.0f} s"
        time.sleep(POLL)
    process.wait()
    return peak, ""


def _too_much(megabytes: float, budget: Budget) -> str:
    return f"{megabytes:.0f} MB, more than {budget.memory_mb:.0f}"


def _lines(file: IO[bytes]) -> dict[str, float | str]:
    """Return what a process told, line by line, before it ended or was stopped."""
    file.seek(0)
    found: dict[str, float | str] = {}
    for line in file:
        if line.startswith(b"{") and line.endswith(b"}\n"):
            found |= json.loads(line)
    return found


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no word of why")
