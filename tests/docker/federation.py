"""A federation in containers: docker/compose.federation.yml, in a project of its own."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.deployment.control import Control
from tests.deployment.deployment import free_port, wait_until

ROOT = Path(__file__).parents[2]
ASK_SECONDS = 5  # between two questions for the nodes that are online
OWNER = 10001  # the user that the images' programs run as
SERVER = ["gate", "superlink", "superexec"]
DEVICES = ["one", "two", "three"]  # of capacity 1, 2, 3


def docker(*arguments: str, check: bool = True, **options: Any) -> str:
    """Run a ``docker`` command and return what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


class Federation(Control):
    """Started at the beginning of the ``with`` block; at its end nothing is left of it.

    Parameters
    ----------
    folder : Path
        Folder for keys, results and Flower's configuration; ``folder / "speech"`` holds a folder of
        recordings for each device.
    override : dict, optional
        A compose file that changes ``compose.federation.yml``.
    devices : list of str
        The names of the devices' services.
    services : sequence of str
        What to start at first; by default everything.
    """

    def __init__(
        self, folder: Path, override: dict[str, Any] | None = None, devices: list[str] = DEVICES,
        services: Sequence[str] = (),
    ) -> None:  # fmt: skip
        names = ["superlink", "gate", "localhost", "127.0.0.1"]
        super().__init__(folder, names, devices, free_port())
        self.devices, self.services = devices, services
        self.gate = free_port()
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.run_folder, self.output = self.runs / "run", "/state/ef-asr-runs/run"
        self.project = f"ef-asr-test-{secrets.token_hex(3)}"
        (folder / "override.yml").write_text(yaml.safe_dump(override or {"services": {}}))
        self.give_to_owner()

    def give_to_owner(self) -> None:
        """Let the containers' user read the keys and write the results, as the README says."""
        subprocess.run(["chown", "-R", str(OWNER), self.keys, self.runs], check=True)

    def __enter__(self) -> "Federation":
        try:
            self.compose("up", "--detach", "--no-build", *self.services)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error:
            print(self.compose("logs", "--tail", "100", "--no-color", check=False))
        self.remove()

    def remove(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run a ``docker compose`` command for this federation."""
        files = [ROOT / "docker" / "compose.federation.yml", self.folder / "override.yml"]
        options = [word for file in files for word in ("--file", str(file))]
        variables = {
            "KEYS": str(self.keys), "RUNS": str(self.runs), "NAME": "-", "SUPERLINK": "gate:8000",
            "DATA": str(self.folder / "speech"), "TEST_DATA": str(self.folder / "speech"),
            "PORT": str(self.gate), "CONTROL_PORT": str(self.port),
        }  # fmt: skip
        command = ["compose", "--project-name", self.project, *options, *arguments]
        return docker(*command, check=check, env={**os.environ, **variables})

    def container(self, service: str) -> str:
        """Return the container's name."""
        return f"{self.project}-{service}-1"

    def log(self, service: str) -> str:
        """Return what a service printed."""
        return docker("logs", self.container(service))

    def server_log(self) -> str:
        """Return what the SuperLink printed."""
        return self.log("superlink")

    def says(self, service: str, words: str, seconds: float) -> None:
        """Wait until a service's log holds the words."""
        wait_until(lambda: words in self.log(service), seconds, f"{service} says {words!r}")

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        (container,) = json.loads(docker("inspect", self.container(service)))
        return dict(container)

    def register_all(self) -> dict[str, int]:
        """Register the devices and return their node ids."""
        return {name: self.register(name) for name in self.devices}

    def online(self) -> set[int]:
        """Return the ids of the nodes that are online."""
        output = self.flwr("supernode", "list", "--format", "json")
        nodes = json.loads(output[output.index("{") :])["nodes"]
        return {int(node["node-id"]) for node in nodes if node["status"] == "online"}

    def wait_for(self, nodes: Iterable[int], seconds: float = 300) -> None:
        """Wait until the nodes are online; asking takes a core for seconds, so not all the time."""
        deadline = time.monotonic() + seconds
        while missing := set(nodes) - self.online():
            assert time.monotonic() < deadline, f"not online within {seconds} s: {missing}"
            time.sleep(ASK_SECONDS)
