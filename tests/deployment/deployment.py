"""A federation of real programs on loopback: TLS, node authentication, a database."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from simulation.superlink import stop_family
from tests.deployment.control import PROGRAMS, Control

DOCKER = Path(__file__).parents[2] / "docker"  # its scripts start the programs, as on devices


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


class Deployment(Control):
    """A SuperLink and its SuperNodes; all are stopped at the end of the ``with`` block.

    Parameters
    ----------
    folder : Path
        Folder for keys, logs, databases, caches and the run.
    names : list of str
        The devices to make key pairs for.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        super().__init__(folder, ["localhost", "127.0.0.1"], names, free_port())
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

    def server_log(self) -> str:
        """Return what the SuperLink printed."""
        return self.superlink.log

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
