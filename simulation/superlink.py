"""A local SuperLink for one run: started offline, and stopped with every process it started."""

import json
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
from simulation import interrupts
from simulation.environment import environment, ray_folder

START_SECONDS = 60  # a SuperLink must answer within this time; on a loaded machine it takes long
STOP_SECONDS = 10  # processes may take this long to stop before they are killed
KILL_SECONDS = 5  # a killed process may take this long to give its memory back
HEALTH = "/health"  # the path at which a SuperLink says that it is ready


class SimulationError(RuntimeError):
    """The simulation could not be started."""


class LocalSuperLink:
    """A SuperLink in simulation mode on a free port, with a temporary FLWR_HOME.

    A context manager. Entering starts the SuperLink and does not wait for it: there is other work
    to do meanwhile. Leaving stops it and every process it started, and removes its files.

    Parameters
    ----------
    preload : bool
        Whether Ray's workers import the client app as they start; not for clients that compile
        their layers, since ``simulation.preload`` leaves the compiler out.
    """

    home: Path

    def __init__(self, preload: bool = True) -> None:
        self.preload = preload
        self.folders: list[Path] = []  # temporary ones
        self.process: subprocess.Popen[bytes] | None = None
        self.answers = False

    def __enter__(self) -> "LocalSuperLink":
        try:
            self._start()
        except BaseException as error:  # Ctrl-C too: Python calls no __exit__ when this raises
            self.stop()
            if isinstance(error, OSError):
                raise SimulationError(f"the SuperLink could not be started: {error}") from error
            raise
        return self

    @property
    def log(self) -> Path:
        """What the SuperLink prints."""
        return self.home / "superlink.log"

    def _start(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ef-asr-"))
        self.folders.append(self.home)
        ray = ray_folder(self.home)
        self.folders.append(ray)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = environment(self.home, ray, self.preload)
        (self.home / "config.toml").write_text(
            '[superlink]\ndefault = "simulate"\n\n[superlink.simulate]\n'
            f'address = "127.0.0.1:{self.port}"\ninsecure = true\n',
            encoding="utf-8",
        )
        command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-runtime-dependency-installation"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

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
        log = self.log.read_text(encoding="utf-8", errors="replace")
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
            return f"unknown ({' '.join((done.stdout + done.stderr).split())})"

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
        with interrupts.shut_out():
            if self.process is not None:
                stop_family(self.process, patience)
                self.process = None
            if self.folders:
                kill(self._orphans())
            for folder in self.folders:
                shutil.rmtree(folder, ignore_errors=True)
            self.folders = []

    def _orphans(self) -> list[psutil.Process]:
        """Return the run's processes that are left, such as those of a Ray whose parent crashed."""
        orphans = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("FLWR_HOME") == str(self.home):
                    orphans.append(process)
        return orphans


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
    kill(alive)
    process.wait()
    psutil.wait_procs(alive, KILL_SECONDS)


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they have ended: they write no more files."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, STOP_SECONDS)


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
