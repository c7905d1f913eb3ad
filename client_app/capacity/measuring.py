"""The time and memory of a training step on this machine, exit by exit.

A process of its own (``client_app.capacity.trial_step``) measures each exit, and its memory is
watched: if a step takes too much, only that process ends.
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

# Seconds between looks at the process; a process takes new memory at about 1 GB per second.
POLL_SECONDS = 0.02
MAX_SECONDS = 900.0  # for one exit; a device that needs longer could not finish a round


class MeasuringError(RuntimeError):
    """A step failed, and neither memory nor time was the reason."""


@dataclass(frozen=True)
class Budget:
    """The most that training may take.

    Attributes
    ----------
    memory_mb : float
        Memory of the process, in MB.
    seconds : float
        Of a step, per second of audio; 0 for no limit.
    """

    memory_mb: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Cost:
    """The cost of a training step of the model cut at ``exit``.

    Attributes
    ----------
    exit : int
        From 1.
    parameters : int
        Of the cut model; 0 if the process ended before it had built it.
    seconds : float
        Of a step, per second of audio; 0 if no step was finished.
    peak_mb : float
        Of the process, with Python and torch.
    obstacle : str
        Why it does not fit; empty if it does.
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
        The run config, which sets how much speech a step takes and what is trained.
    budget : Budget
        The most that a step may take.

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
    # The app's code may be a copy that only this process's path leads to.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "client_app.capacity.trial_step"],
            stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environment,
        )  # fmt: skip
        try:
            peak_mb, obstacle = _watch(process, json.dumps(job).encode(), budget)
        finally:
            process.kill()
            process.wait()
        results = _results(output)
        if process.returncode > 0:
            raise MeasuringError(f"measuring exit {exit}: {_last_line(errors)}")
    obstacle = obstacle or str(results.get("obstacle", ""))
    if process.returncode < 0 and not obstacle:
        obstacle = f"the system killed it (signal {-process.returncode}), most likely for memory"
    peak_mb = max(peak_mb, float(results.get("peak_mb", 0.0)))
    seconds = float(results.get("seconds", 0.0))
    if not obstacle and peak_mb > budget.memory_mb:
        obstacle = _too_much_memory(peak_mb, budget)
    if not obstacle and 0 < budget.seconds < seconds:
        obstacle = f"{seconds:.3g} s per second of audio, more than {budget.seconds:g}"
    return Cost(exit, int(results.get("parameters", 0)), seconds, round(peak_mb, 1), obstacle)


def _watch(process: subprocess.Popen[bytes], job: bytes, budget: Budget) -> tuple[float, str]:
    """Wait for a process; return its highest memory in MB, and why it was stopped, if it was."""
    assert process.stdin is not None
    try:
        process.stdin.write(job)
        process.stdin.close()
    except BrokenPipeError:  # it ended before it read the job: its exit status tells
        pass
    began, peak = time.monotonic(), 0.0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            break
        if peak > budget.memory_mb:
            return peak, _too_much_memory(peak, budget)
        if time.monotonic() - began > MAX_SECONDS:
            return peak, f"not finished in {MAX_SECONDS:.0f} s"
        time.sleep(POLL_SECONDS)
    process.wait()
    return peak, ""


def _too_much_memory(megabytes: float, budget: Budget) -> str:
    return f"{megabytes:.0f} MB, more than {budget.memory_mb:.0f}"


def _results(file: IO[bytes]) -> dict[str, float | str]:
    """Return what the process printed, line by line, before it ended or was stopped."""
    file.seek(0)
    results: dict[str, float | str] = {}
    for line in file:
        if line.startswith(b"{") and line.endswith(b"}\n"):
            results |= json.loads(line)
    return results


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "found no error message")
