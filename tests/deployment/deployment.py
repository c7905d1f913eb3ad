"""A federation of real programs on loopback: TLS, node authentication, a database."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from server_app.keys import make_keys
from simulation.environment import OFFLINE
from simulation.superlink import app_folder, run_id_in, stop_family

PROGRAMS = Path(sys.executable).parent
DOCKER = Path(__file__).parents[2] / "docker"  # its scripts start the programs, as on devices
ASK_SECONDS = 20  # between questions for the status of a run that has no report yet
CONNECTION = "deployment"  # what Flower's config.toml calls this SuperLink


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Check twice a second until the condition holds; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


class Program:
    """A process with a log file, in its own session."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.path = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [str(PROGRAMS / command[0]), *command[1:]],
                env=environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """The log so far."""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, seconds: float) -> None:
        """Wait until the log holds the words."""
        wait_until(lambda: words in self.log, seconds, f"{words!r} in\n{self.log[-3000:]}")

    def kill(self) -> None:
        """Kill it and all it started with SIGKILL, as a power cut would."""
        stop_family(self.process, patience=0)

    def stop(self) -> None:
        """Stop it and all it started with SIGTERM."""
        stop_family(self.process)
        # With a wrong clock, a superexec does not notice that its SuperNode has ended.
        orphan = f"--parent-pid {self.process.pid}"
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or []).endswith(orphan):
                process.kill()


class Deployment:
    """A SuperLink and its SuperNodes; all are stopped at the end of the ``with`` block.

    Parameters
    ----------
    folder : Path
        Folder for keys, logs, databases, caches and the run.
    names : list of str
        The devices to make key pairs for.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.run_folder = folder / "run"
        make_keys(self.keys, ["localhost", "127.0.0.1"], names)
        self.port = free_port()
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{self.keys / "ca.crt"}"\n'
        )
        self.programs: list[Program] = []

    def __enter__(self) -> "Deployment":
        self.superlink = self.start_superlink()
        variables = {"KEYS": str(self.keys), "SUPERLINK": f"127.0.0.1:{self.port}"}
        command = [str(DOCKER / "superexec.sh")]
        self.superexec = self.start(command, "superexec", self.home, **variables)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in reversed(self.programs):
            program.stop()

    def environment(self, home: Path, **changes: str) -> dict[str, str]:
        """Return a program's environment: state and cache in ``home``, one thread, no network."""
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", "")])
        folders = {"FLWR_HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PATH": path}
        return {**os.environ, **OFFLINE, "OMP_NUM_THREADS": "1", **folders, **changes}

    def start(self, command: list[str], name: str, home: Path, **changes: str) -> Program:
        """Start a program whose output goes to ``name``.log."""
        log = self.folder / f"{name}.log"
        program = Program(command, log, self.environment(home, **changes))
        self.programs.append(program)
        return program

    def start_superlink(self) -> Program:
        """Start the SuperLink, and wait until it answers."""
        variables = {
            "KEYS": str(self.keys), "STATE": str(self.folder), "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }  # fmt: skip
        command = [str(DOCKER / "superlink.sh")]
        superlink = self.start(command, "superlink", self.home, **variables)
        wait_until(self._answers, 120, f"an answer of the SuperLink\n{superlink.log}")
        return superlink

    def _answers(self) -> bool:
        try:
            return httpx.get(f"https://127.0.0.1:{self.port}/health", verify=False).is_success
        except httpx.HTTPError:
            return False

    def flwr(self, *arguments: str) -> str:
        """Run a ``flwr`` command and return what it printed."""
        done = subprocess.run(
            [str(PROGRAMS / "flwr"), *arguments],
            env=self.environment(self.home), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return done.stdout + done.stderr

    def register(self, name: str) -> int:
        """Register a device and return its node id."""
        output = self.flwr(
            "supernode", "register", str(self.keys / f"{name}.pub"), "--format", "json"
        )
        return int(json.loads(output[output.index("{") :])["node-id"])

    def start_node(
        self, name: str, config: str, data: Path | None = None, port: int | None = None,
        keys: Path | None = None, **changes: str,
    ) -> Program:  # fmt: skip
        """Start a SuperNode as devices do; ``keys`` holds its key and the certificate to trust."""
        home = self.folder / f"node-{name}"
        home.mkdir(parents=True, exist_ok=True)
        variables = {
            "NAME": name, "KEYS": str(keys or self.keys), "DATA": str(data or home),
            "NODE_CONFIG": config, "SUPERLINK": f"127.0.0.1:{port or self.port}",
            "PORT": str(free_port()),
        }  # fmt: skip
        command = [str(DOCKER / "supernode.sh")]
        return self.start(command, f"node-{name}", home, **variables, **changes)

    def start_bare_node(self, name: str, *options: str) -> Program:
        """Start a SuperNode with other options than ``supernode.sh`` gives."""
        home = self.folder / f"node-{name}"
        home.mkdir()
        command = ["flower-supernode", "--superlink", f"127.0.0.1:{self.port}"]
        command += ["--port", str(free_port()), *options]
        return self.start(command, f"node-{name}", home)

    def run(self, app: Path | None = None, **keys: str | float) -> str:
        """Start a run and return its id; keys of the run config are written with ``_``."""
        config = {
            "output": str(self.run_folder),
            **{k.replace("_", "-"): v for k, v in keys.items()},
        }
        output = self.flwr(
            "run", str(app or app_folder(self.folder)), CONNECTION,
            "--run-config", " ".join(f"{key}={json.dumps(value)}" for key, value in config.items()),
        )  # fmt: skip
        run_id = run_id_in(output)
        assert run_id, output
        return run_id

    def status(self, run_id: str) -> str:
        """Return the run's status, such as ``finished:completed``."""
        output = self.flwr("ls", "--run-id", run_id, "--format", "json")
        return str(json.loads(output[output.index("{") :])["runs"][0]["status"])

    def rounds(self) -> list[dict]:
        """Return the rounds in ``metrics.jsonl`` so far."""
        metrics = self.run_folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        return [json.loads(line) for line in lines]

    def finish(self, run_id: str, seconds: float) -> str:
        """Wait until the run has ended, and return its status.

        Asking for the status takes a core for seconds, which the run's programs need: it is asked
        for once the run has written its report, and now and then in case it never does.
        """
        deadline = time.monotonic() + seconds
        report = self.run_folder / "report.html"
        while not (status := self.status(run_id)).startswith("finished"):
            assert time.monotonic() < deadline, (
                f"{status} after {seconds:.0f} s\n{self.superlink.log[-3000:]}"
            )
            ask = time.monotonic() + ASK_SECONDS
            while time.monotonic() < ask and not report.exists():
                time.sleep(0.5)
        return status
