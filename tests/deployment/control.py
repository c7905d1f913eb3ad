"""The ``flwr`` command, told of one SuperLink."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from server_app.keys import make_keys
from simulation.environment import OFFLINE
from simulation.superlink import app_folder, run_id_in

PROGRAMS = Path(sys.executable).parent
ASK_SECONDS = 60  # between questions for the status of a run that has no report yet
CONNECTION = "deployment"  # what Flower's config.toml calls this SuperLink


class Control:
    """Keys, registered devices and runs of a federation.

    Parameters
    ----------
    folder : Path
        Folder for keys, Flower's configuration and the run.
    names : list of str
        The names that the server is reached by.
    devices : list of str
        The devices to make key pairs for.
    port : int
        The SuperLink's port on this machine.

    Attributes
    ----------
    run_folder : Path
        The run folder.
    output : str
        The run folder as the server app sees it.
    """

    def __init__(self, folder: Path, names: list[str], devices: list[str], port: int) -> None:
        self.folder, self.port = folder, port
        self.keys = folder / "keys"
        self.run_folder = folder / "run"
        self.output = str(self.run_folder)
        make_keys(self.keys, names, devices)
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "127.0.0.1:{port}"\nroot-certificates = "{self.keys / "ca.crt"}"\n'
        )

    def environment(self, home: Path, **changes: str) -> dict[str, str]:
        """Return a program's environment: state and cache in ``home``, one thread, no network."""
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", "")])
        folders = {"FLWR_HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PATH": path}
        return {**os.environ, **OFFLINE, "OMP_NUM_THREADS": "1", **folders, **changes}

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

    def run(self, app: Path | None = None, **keys: str | float) -> str:
        """Start a run and return its id; keys of the run config are written with ``_``."""
        config = {
            "output": self.output,
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
                f"{status} after {seconds:.0f} s\n{self.server_log()[-3000:]}"
            )
            ask = time.monotonic() + ASK_SECONDS
            while time.monotonic() < ask and not report.exists():
                time.sleep(0.5)
        return status

    def server_log(self) -> str:
        """Return what the server printed, for the message of a failed test."""
        return ""
