"""Twenty devices that come and go at random while a run trains; nothing leaks.

Run with ``pytest -s -m docker tests/docker/test_soak.py``: an hour on two cores, and 16 GB.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest

from tests.deployment.speech import SPEECHOCEAN, device_folders
from tests.docker.federation import ROOT, SERVER, Federation, docker

pytestmark = [
    pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("images"),
    pytest.mark.timeout(7200),
]  # fmt: skip

SEED = 0  # of who goes, how and when
FLEET = [f"device-{number}" for number in range(1, 21)]
MOST_AWAY = 6  # devices that are away at a time
PAUSES = (30.0, 90.0)  # seconds between two that come or go
KEYS = {
    "rounds": 10, "min_nodes": 14, "min_train_nodes": 2, "fraction_train": 0.5, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "max_seconds": 5.0, "round_timeout": 1200.0,
    "calibrate": "off",
}  # fmt: skip


@dataclass
class Use:
    """What a container uses at a moment."""

    processes: int
    memory: int  # MB, resident, summed over processes
    handles: int  # open files and sockets
    temporary: int  # files and folders in /tmp
    disk: int  # MB in /state

    @classmethod
    def of(cls, federation: Federation, service: str) -> "Use":
        """Look from outside; processes that have ended do not count."""
        first = psutil.Process(federation.inspect(service)["State"]["Pid"])
        processes, memory, handles = 0, 0, 0
        for process in [first, *first.children(recursive=True)]:
            try:
                if process.status() != psutil.STATUS_ZOMBIE:
                    memory += process.memory_info().rss
                    handles += process.num_fds()
                    processes += 1
            except psutil.NoSuchProcess:
                pass
        root = Path(f"/proc/{first.pid}/root")
        sizes = (path.lstat().st_size for path in [*(root / "state").rglob("*")] if path.exists())
        return cls(
            processes, memory >> 20, handles, len([*(root / "tmp").rglob("*")]),
            sum(sizes) >> 20,
        )  # fmt: skip


class Coming:
    """Devices that leave (stopped, killed or cut off) at random, and come back."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.random = random.Random(SEED)
        self.away: dict[str, Callable[[], object]] = {}
        self.counts = dict.fromkeys(("stop", "kill", "cut", "come"), 0)
        self.due = 0.0

    def start(self, name: str) -> None:
        """Start a device's container again."""
        self.federation.compose("up", "--detach", "--no-build", "--no-deps", name)

    def go_on(self) -> None:
        """Let a device leave or come back, if it is time for one."""
        if time.monotonic() < self.due:
            return
        if len(self.away) > self.random.randint(0, MOST_AWAY):
            self.come(self.random.choice([*self.away]))
        else:
            here = [name for name in FLEET if name not in self.away]
            self.leave(self.random.choice(here), self.random.choice(["stop", "kill", "cut"]))
        self.due = time.monotonic() + self.random.uniform(*PAUSES)

    def come(self, name: str) -> None:
        """Bring a device back."""
        self.away.pop(name)()
        self.counts["come"] += 1

    def leave(self, name: str, how: str) -> None:
        """Stop a device, kill it, or take its network away."""
        container, network = self.federation.container(name), f"{self.federation.project}_devices"
        if how == "cut":
            docker("network", "disconnect", network, container)
            self.away[name] = lambda: docker("network", "connect", network, container)
        else:
            docker(how, container)
            self.away[name] = lambda: self.start(name)
        self.counts[how] += 1


def compose_file() -> dict:
    """Return a compose file with twenty devices, each of which measures its capacity."""
    device = {"file": str(ROOT / "docker" / "compose.node.yml"), "service": "supernode"}
    services = {
        name: {
            "extends": device,
            "environment": {"NAME": name, "DATA": f"/data/{name}", "NODE_CONFIG": ""},
            "volumes": [f"state-{name}:/state", f"cache-{name}:/cache"],
            "networks": ["devices"],
            "healthcheck": {"disable": True},  # twenty a minute would take a third of a core
            "oom_score_adj": 500,  # before anything else on this machine
        }
        for name in FLEET
    }
    # In earnest no device shares the server's processors.
    server = {service: {"cpu_shares": 8192} for service in SERVER}
    return {
        "services": server | services,
        "volumes": {f"{kind}-{name}": {} for name in FLEET for kind in ("state", "cache")},
    }


def test_twenty_devices_come_and_go_and_nothing_leaks(tmp_path):
    device_folders(tmp_path / "speech", FLEET, 8, source=SPEECHOCEAN)
    with Federation(tmp_path, compose_file(), FLEET, [*SERVER, *FLEET]) as federation:
        ids = federation.register_all()
        federation.wait_for(ids.values(), 900)
        servers = ("superlink", "superexec")
        before = {service: Use.of(federation, service) for service in servers}
        run_id = federation.run(**KEYS)
        coming, uses, began = Coming(federation), [], time.monotonic()
        while len(uses) < KEYS["rounds"]:
            if uses:  # once each device has measured its capacity
                coming.go_on()
            if len(federation.rounds()) > len(uses):
                uses.append({service: Use.of(federation, service) for service in servers})
                tell(federation.rounds()[len(uses) - 1], uses[-1], began)
            assert time.monotonic() < began + 6600, federation.log("superexec")[-3000:]
            time.sleep(0.5)
        assert federation.finish(run_id, 600) == "finished:completed"

        for name in [*coming.away]:
            coming.come(name)
        federation.wait_for(ids.values(), 600)
        after = {service: Use.of(federation, service) for service in [*servers, *FLEET]}
        print(coming.counts, "\nbefore", before, "\nafter", after)
        rounds = federation.rounds()
    assert [record["round"] for record in rounds] == [*range(1, KEYS["rounds"] + 1)]
    assert all(record["answered"] for record in rounds)

    # From round 3 on nothing may grow, and nothing is left of the run.
    for service in servers:
        third, last = uses[2][service], uses[-1][service]
        assert last.memory < third.memory + 100 and last.handles < third.handles + 20, service
        assert last.disk < 2 * third.disk + 10, service
        assert after[service].processes == before[service].processes, service
    devices = [after[name] for name in FLEET]
    assert {use.processes for use in devices} == {2}
    assert max(use.temporary for use in after.values()) <= 1  # torch's compiler: an empty folder
    assert max(use.disk for use in devices) < 10


def tell(record: dict, uses: dict[str, Use], began: float) -> None:
    """Print a round, and what the server's containers use at its end."""
    line = {
        "round": record["round"], "at": round(time.monotonic() - began),
        "seconds": round(record["train-seconds"]), "answered": record["answered"],
        "failures": record["failures"], "capacities": record["capacities"],
    }  # fmt: skip
    line |= {service: asdict(use) for service, use in uses.items()}
    print(json.dumps(line), flush=True)
