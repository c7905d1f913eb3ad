"""The ``ef-asr`` command as a user runs it, and every process that it started."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

EF_ASR = str(Path(sys.executable).parent / "ef-asr")
MARK = "EF_ASR_TEST"  # in the environment, which Flower and Ray hand on to all they start


def environment(cwd: Path) -> dict[str, str]:
    """Return an environment by which ``processes`` knows what was started in ``cwd``."""
    return {**os.environ, MARK: str(cwd)}


def ef_asr(*arguments: str, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [EF_ASR, *arguments], cwd=cwd, env=environment(cwd), capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip


def start(
    *arguments: str, cwd: Path, program: str = "", **variables: str
) -> "subprocess.Popen[str]":
    """Start the command as a terminal does: tests in a shell's background inherit no Ctrl-C.

    ``program`` is Python that runs the command, where a test changes something in it first.
    """
    command = [sys.executable, "-c", program] if program else [EF_ASR]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env={**environment(cwd), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def processes(cwd: Path) -> list[psutil.Process]:
    """Return what runs of what was started in ``cwd``, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(cwd):
                found.append(process)
    return found
