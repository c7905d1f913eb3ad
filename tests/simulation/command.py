"""Run ``ef-asr``: in this process for refusals, as a program for runs; list what a run started."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import typer
from click.testing import Result
from typer.testing import CliRunner

from simulation.interrupts import SIGNALS

EF_ASR = str(Path(sys.executable).parent / "ef-asr")
MARK = "EF_ASR_TEST"  # an environment variable: Flower and Ray pass it on to all they start


def invoke(command: Callable[..., None], *arguments: object) -> Result:
    """Call one command's function in this process, with arguments as on the command line."""
    app = typer.Typer()
    app.command()(command)
    before = {each: signal.getsignal(each) for each in SIGNALS}  # simulate and sweep set their own
    try:
        return CliRunner().invoke(app, list(map(str, arguments)))
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with a cache in ``folder`` and the mark that ``processes`` finds."""
    return {**os.environ, MARK: str(folder), "XDG_CACHE_HOME": str(folder / "cache")}


def ef_asr(
    *arguments: str, cwd: Path, timeout: float = 600, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a program and wait for its end."""
    return subprocess.run(
        [EF_ASR, *arguments], cwd=cwd, env={**environment(cwd), **variables}, capture_output=True,
        text=True, timeout=timeout,
    )  # fmt: skip


def start(
    *arguments: str, cwd: Path, program: str = "", **variables: str
) -> "subprocess.Popen[str]":
    """Start the command as a terminal does.

    A shell has background jobs ignore Ctrl-C, and ``nohup`` the end of the terminal.
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
        preexec_fn=heed_signals,
    )


def heed_signals() -> None:
    """Let this process end by Ctrl-C and with its terminal, whatever its parent ignores."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def processes(folder: Path) -> list[psutil.Process]:
    """Return the running processes that were started in ``folder``, whoever their parent is now."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder):
                running.append(process)
    return running
