"""The units of docker/systemd under a real systemd: they start, work, survive a kill, and stop.

Run with ``pytest -s -m docker tests/docker/test_systemd.py``: 6 minutes.
"""

import json
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from server_app.keys import make_keys
from simulation.superlink import app_folder
from tests.deployment.deployment import wait_until
from tests.deployment.speech import ARABIC, device_folders
from tests.docker.federation import docker
from tests.docker.images import BUNDLE, registry_settings, torch

pytestmark = [
    pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("images"),
    pytest.mark.timeout(3600),
]  # fmt: skip

IMAGE = "ef-asr-test-systemd"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")  # this machine's, for one step
DOCKERFILE = """
FROM ef-asr-superlink
USER root
RUN --mount=type=secret,id=sources,target=/etc/apt/sources.list.d/debian.sources \\
    apt-get update && apt-get install -y --no-install-recommends systemd-sysv && \\
    rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
"""
UNITS = ["ef-asr-superlink", "ef-asr-superexec", "ef-asr-supernode"]
# In the container's own network, a device needs no gate.
INSTALL = "NODE_CONFIG=capacity=1 /srv/app/docker/systemd/install.sh localhost:8001 kitchen"
CONNECTION = """
[superlink.here]
address = "localhost:8001"
root-certificates = "/etc/ef-asr/keys/ca.crt"
"""
RUNS = "/var/lib/ef-asr/ef-asr-runs"


class Machine:
    """A container with systemd as its first process."""

    def __init__(self, folder: Path) -> None:
        self.name = f"ef-asr-test-{secrets.token_hex(3)}"
        volumes = {
            "/sys/fs/cgroup": "/sys/fs/cgroup", folder / "keys": "/etc/ef-asr/keys",
            folder / "srv": "/srv", app_folder(folder): "/srv/app:ro", BUNDLE: "/srv/ca:ro",
            SOURCES: f"{SOURCES}:ro",
        }  # fmt: skip
        options = [word for a, b in volumes.items() for word in ("--volume", f"{a}:{b}")]
        # What systemd needs to give each service name spaces of its own.
        options += ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]
        options += ["--cgroupns", "host", "--tmpfs", "/run", "--tmpfs", "/tmp"]
        docker("run", "--detach", "--name", self.name, *options, IMAGE)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the container and return what it printed."""
        return docker(
            "exec", "--env", "FLWR_HOME=/srv/home", self.name, *command, check=check
        ).strip()

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit)

    def remove(self) -> None:
        """Remove the container."""
        docker("rm", "--force", "--volumes", self.name)


@pytest.fixture
def machine(tmp_path):
    if not SOURCES.exists():
        pytest.skip("no list of Debian's packages")
    done = subprocess.run(
        ["docker", "build", "--secret", f"id=sources,src={SOURCES}", "--tag", IMAGE, "-"],
        input=DOCKERFILE, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    make_keys(tmp_path / "keys", ["localhost"], ["kitchen"])
    srv = tmp_path / "srv"
    device_folders(srv, ["speech"], 8, source=ARABIC)
    for empty in ("app", "device", "home"):
        (srv / empty).mkdir()
    for file in ("ca.crt", "kitchen"):
        shutil.copy(tmp_path / "keys" / file, srv / "device")
    (srv / "ca").touch()
    (srv / "home" / "config.toml").write_text(CONNECTION)
    settings = registry_settings().replace("/run/secrets/ca", "/srv/ca")
    (srv / "registry").write_text(f"{settings}export TORCH='{torch()}'\n")
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        print(made.run("journalctl", "--no-pager", "--lines", "100", check=False))
        made.remove()


def test_units_start_work_survive_a_kill_and_stop_in_time(machine):
    state = ("systemctl", "is-system-running")
    wait_until(
        lambda: machine.run(*state, check=False) in ("running", "degraded"), 120, "systemd is up"
    )
    machine.run("chown", "-R", "ef-asr", "/etc/ef-asr/keys")
    for unit in UNITS[:2]:
        machine.run("cp", f"/srv/app/docker/systemd/{unit}.service", "/etc/systemd/system/")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", *UNITS[:2])

    register = ["flwr", "supernode", "register", "/etc/ef-asr/keys/kitchen.pub", "here"]
    wait_until(lambda: "registered" in machine.run(*register, check=False), 180, "a SuperLink")
    machine.run("sh", "-c", f". /srv/registry && {INSTALL} /srv/speech /srv/device")
    config = 'data="audiofolder" data-path="" rounds=1 min-nodes=1 min-train-nodes=1'
    config += ' fraction-train=1.0 local-epochs=1 calibrate="off"'
    machine.run("flwr", "run", "/srv/app", "here", "--run-config", config)
    metrics = ["sh", "-c", f"cat {RUNS}/*/metrics.jsonl"]
    wait_until(lambda: "answered" in machine.run(*metrics, check=False), 900, "a round")
    assert json.loads(machine.run(*metrics))["answered"] == 1

    for unit in UNITS:
        killed = machine.property(unit, "MainPID")
        machine.run("sh", "-c", f"kill -9 {killed}")
        began = time.monotonic()
        wait_until(
            lambda unit=unit, killed=killed: machine.property(unit, "ActiveState") == "active"
            and machine.property(unit, "MainPID") not in ("0", killed),
            120, f"{unit} is started again",
        )  # fmt: skip
        print(f"\n{unit}: started again {time.monotonic() - began:.0f} s after a kill")
    time.sleep(20)
    for unit in reversed(UNITS):
        began = time.monotonic()
        machine.run("systemctl", "stop", unit)
        print(f"{unit}: stopped after {time.monotonic() - began:.0f} s")
        # A unit that had to be killed at the end of TimeoutStopSec says so.
        assert machine.property(unit, "Result") == "success", machine.run(
            "journalctl", "--unit", unit, "--no-pager", "--lines", "50"
        )
