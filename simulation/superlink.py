"""A local SuperLink for one run: started offline, and stopped with every process it started."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

import psutil

import efmodel

START_SECONDS = 60  # a SuperLink must answer within this time; on a loaded machine it takes long
STOP_SECONDS = 10  # processes may take this long to stop before they are killed
KILL_SECONDS = 5  # a killed process may take this long to give its memory back
HEALTH = "/health"  # the path at which a SuperLink says that it is ready

# Keep a run off the network: no telemetry, no update check, no installation of torch for each run.
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

# Start faster.
PRELOAD = "RAY_preload_python_modules"
FAST_START = {
    # Ray starts no idle workers beside the actors: they took 2 s of CPU time in all.
    "RAY_prestart_worker_first_driver": "0",
    # The actors import torch while the server app does, not when the first message comes.
    PRELOAD: "simulation.preload",
}


class SimulationError(RuntimeError):
    """The simulation could not be started."""


class LocalSuperLink:
    """A SuperLink in simulation mode on a free port, with a temporary FLWR_HOME.

    A context manager. Entering starts the SuperLink and does not wait for it: there is other work
    to do meanwhile. Leaving stops it and every process it started.

    Parameters
    ----------
    preload : bool
        Whether Ray's workers import the client app as they start; not for clients that compile
        their layers, since ``simulation.preload`` leaves the compiler out.
    """

    def __init__(self, preload: bool = True) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ef-asr-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        programs = str(Path(sys.executable).parent)  # Flower starts its programs by name
        path = os.pathsep.join([programs, os.environ.get("PATH", "")])
        self.environment = {**FAST_START, **os.environ, **OFFLINE}
        if not preload:
            self.environment.pop(PRELOAD, None)
        self.environment |= {"FLWR_HOME": str(self.home), "PATH": path}
        self.process: subprocess.Popen[bytes] | None = None
        self.answers = False

    def __enter__(self) -> "LocalSuperLink":
        (self.home / "config.toml").write_text(
            '[superlink]\ndefault = "simulate"\n\n[superlink.simulate]\n'
            f'address = "127.0.0.1:{self.port}"\ninsecure = true\n',
            encoding="utf-8",
        )
        command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-runtime-dependency-installation"]
        try:
            with (self.home / "superlink.log").open("wb") as log:
                self.process = subprocess.Popen(
                    command, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
        except BaseException:  # Ctrl-C too: Python calls no __exit__ when __enter__ raises
            self.stop()
            raise
        return self

    def wait_until_it_answers(self) -> None:
        """Wait until the SuperLink accepts a run.

        Raises
        ------
        SimulationError
            If it does not within ``START_SECONDS``, or if it ended; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while self.process and self.process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, HTTPException):  # nobody listens on the port yet
                if self._is_healthy():
                    self.answers = True
                    return
            time.sleep(0.1)
        log = (self.home / "superlink.log").read_text(encoding="utf-8", errors="replace")
        raise SimulationError(f"the SuperLink did not start:\n{log[-2000:]}")

    def _is_healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", HEALTH)
            return connection.getresponse().status == HTTPStatus.OK
        finally:
            connection.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def flwr(self, *arguments: str) -> list[str]:
        """Return the command line of a ``flwr`` command, once the SuperLink answers.

        Raises
        ------
        SimulationError
            If the SuperLink does not start.
        """
        if not self.answers:
            self.wait_until_it_answers()
        return [str(Path(sys.executable).parent / "flwr"), *arguments]

    def status(self, run_id: str) -> str:
        """Return the run's status, such as ``finished:completed``."""
        command = self.flwr("ls", "--run-id", run_id, "--format", "json")
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        try:
            return str(json.loads(done.stdout)["runs"][0]["status"])
        except (ValueError, LookupError):
            return f"unknown ({done.stdout.strip()} {done.stderr.strip()})"

    def cancel(self, run_id: str) -> None:
        """Ask the run to stop."""
        subprocess.run(
            self.flwr("stop", run_id), env=self.environment, capture_output=True, check=False
        )

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """Stop the SuperLink and every process it started; with ``patience`` 0 kill them at once.

        Parameters
        ----------
        patience : float
            Seconds in which the processes may stop by themselves.
        """
        if self.process is not None:
            stop_family(self.process, patience)
            self.process = None
        shutil.rmtree(self.home, ignore_errors=True)


def stop_family(process: subprocess.Popen[bytes], patience: float = STOP_SECONDS) -> None:
    """Stop a process and every process it started; kill those that remain after ``patience`` s.

    A SuperExec leads a session of its own and Ray starts many processes. The family is listed
    first, because a process whose parent has ended can no longer be traced to it.
    """
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGTERM if patience else signal.SIGKILL)
    _, alive = psutil.wait_procs(family, patience)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(alive, KILL_SECONDS)


def run_id_in(output: str) -> str | None:
    """Return the run id that ``flwr run`` printed."""
    match = re.search(r"Successfully started run (\d+)", output)
    return match[1] if match else None


def app_folder(temporary: Path) -> Path:
    """Return the folder of the Flower app.

    In a checkout this is the checkout. An installed wheel has no pyproject.toml beside its
    packages: the app is copied together under ``temporary``.
    """
    root = Path(str(efmodel.__file__)).parent.parent
    if (root / "pyproject.toml").is_file():
        return root
    folder = temporary / "ef-asr"
    for package in ("efmodel", "client_app", "server_app"):
        shutil.copytree(root / package, folder / package)
    shutil.copy(root / "simulation" / "pyproject.toml", folder)
    return folder
