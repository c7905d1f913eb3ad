"""A local SuperLink of our own: started for one run, offline, stopped with all it started."""

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
from pathlib import Path
from types import TracebackType

import httpx
import psutil

import efmodel

START_SECONDS = 60  # for a SuperLink to answer; a loaded machine takes its time
STOP_SECONDS = 10  # for processes to wind down before they are killed

# Off the network: no telemetry, no update check, no second installation of torch for each run.
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class SimulationError(RuntimeError):
    """The simulation could not be started."""


class LocalSuperLink:
    """A SuperLink in simulation mode on a free port, with a temporary FLWR_HOME.

    A context manager: on leaving, the SuperLink and every process it started are stopped.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ef-asr-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        programs = str(Path(sys.executable).parent)  # Flower starts its programs by name
        path = os.pathsep.join([programs, os.environ.get("PATH", "")])
        self.environment = {**os.environ, **OFFLINE, "FLWR_HOME": str(self.home), "PATH": path}
        self.process: subprocess.Popen[bytes] | None = None

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
            self._wait_until_it_answers(self.process)
        except BaseException:  # Ctrl-C too: __exit__ is not called for what was never entered
            self.stop()
            raise
        return self

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        log = (self.home / "superlink.log").read_text(encoding="utf-8", errors="replace")
        raise SimulationError(f"the SuperLink did not start:\n{log[-2000:]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def flwr(self, *arguments: str) -> list[str]:
        """Return the command line of a ``flwr`` command."""
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

    def stop(self) -> None:
        """Stop the SuperLink and all it started."""
        if self.process is not None:
            stop_family(self.process)
            self.process = None
        shutil.rmtree(self.home, ignore_errors=True)


def stop_family(process: subprocess.Popen[bytes], patience: float = STOP_SECONDS) -> None:
    """Stop a process and all it started; kill what is still there after so many seconds.

    A superexec leads a session of its own and Ray many processes, so the family is asked for while
    its members still know their parents.
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


def run_id_in(output: str) -> str | None:
    """Return the run id that ``flwr run`` printed."""
    match = re.search(r"Successfully started run (\d+)", output)
    return match[1] if match else None


def app_folder(temporary: Path) -> Path:
    """Return the folder of the Flower app: the checkout, or what an installation is made of.

    A wheel has no pyproject.toml beside its packages; the app is put together under ``temporary``.
    """
    root = Path(str(efmodel.__file__)).parent.parent
    if (root / "pyproject.toml").is_file():
        return root
    folder = temporary / "ef-asr"
    for package in ("efmodel", "client_app", "server_app"):
        shutil.copytree(root / package, folder / package)
    shutil.copy(root / "simulation" / "pyproject.toml", folder)
    return folder
