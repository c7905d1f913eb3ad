"""Faults of devices and servers: each costs at most one client's part in one round.

Each test runs real programs for minutes (``pytest -m slow tests/deployment``).
"""

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.app_with import app_with
from tests.deployment import misbehaving
from tests.deployment.deployment import Deployment, Program, wait_until
from tests.deployment.relay import Relay
from tests.deployment.speech import device_folders

pytestmark = pytest.mark.slow

DEVICES = ["kitchen", "car", "hall"]
KEYS = {
    "rounds": 4, "min_nodes": 3, "min_train_nodes": 3, "fraction_train": 1.0, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "round_timeout": 300.0, "calibrate": "off",
}  # fmt: skip
TRAINING = "Receiving: train message"


class Federation:
    """Three registered devices with speech, of capacities 1 to 3."""

    def __init__(self, folder: Path) -> None:
        self.speech = device_folders(folder / "speech", DEVICES, utterances=8)
        self.deployment = Deployment(folder, DEVICES)
        self.nodes: dict[str, Program] = {}

    def start(self, name: str, extra: str = "", **options) -> Program:
        """Start a device's SuperNode."""
        capacity = DEVICES.index(name) + 1
        config = f"capacity={capacity} {extra}"
        self.nodes[name] = self.deployment.start_node(name, config, self.speech[name], **options)
        return self.nodes[name]


@pytest.fixture
def federation(tmp_path):
    made = Federation(tmp_path)
    with made.deployment as deployment:
        for name in DEVICES:
            deployment.register(name)
        yield made


def lost(rounds: list[dict]) -> list[tuple[int, str]]:
    """Return (round, client) for each reply that is missing."""
    return [(record["round"], name) for record in rounds for name in record["failures"]]


def report(what: str, rounds: list[dict]) -> None:
    """Print a line for the documentation's table of faults (``pytest -s``)."""
    seconds = [round(record["train-seconds"]) for record in rounds]
    print(f"\n{what}: rounds took {seconds} s, lost {lost(rounds)}")


def finished(federation: Federation, run_id: str, what: str, seconds: float = 900) -> list[dict]:
    assert federation.deployment.finish(run_id, seconds) == "finished:completed"
    rounds = federation.deployment.rounds()
    report(what, rounds)
    assert [record["round"] for record in rounds] == [1, 2, 3, 4]
    return rounds


def test_a_node_is_killed_in_a_round_and_comes_back(federation):
    for name in DEVICES:
        federation.start(name)
    run_id = federation.deployment.run(**KEYS)
    federation.nodes["hall"].says(TRAINING, 120)
    federation.nodes["hall"].kill()

    def is_back() -> bool:  # restart it whenever it ends, as a service does
        if federation.nodes["hall"].process.poll() is not None:
            federation.start("hall")
            time.sleep(10)
        return "SuperNode ID" in federation.nodes["hall"].log.split("Starting Flower SuperNode")[-1]

    began = time.monotonic()
    wait_until(is_back, 200, "the restarted SuperNode is let in")
    print(f"\nlet in again after {time.monotonic() - began:.0f} s")
    rounds = finished(federation, run_id, "a node killed in round 1")
    assert lost(rounds) in ([(1, "hall")], [(1, "hall"), (2, "hall")])
    assert rounds[-1]["answered"] == 3


def test_a_node_asked_to_stop_in_a_round_ends_at_once_with_all_it_started(federation, tmp_path):
    """As systemd and Docker do: SIGTERM to the SuperNode, SIGKILL a minute later."""
    for name in DEVICES:
        federation.start(name, extra="slow=40" if name == "hall" else "")
    app = app_with(tmp_path, Path(misbehaving.__file__))
    run_id = federation.deployment.run(app, **{**KEYS, "rounds": 1})
    node = federation.nodes["hall"]
    node.says(TRAINING, 120)
    family = psutil.Process(node.process.pid).children(recursive=True)
    began = time.monotonic()
    node.process.terminate()
    assert node.process.wait(60) == 0
    print(f"\nstopped after {time.monotonic() - began:.0f} s")
    assert not psutil.wait_procs(family, 60)[1]
    assert federation.deployment.finish(run_id, 400) == "finished:completed"
    (record,) = federation.deployment.rounds()
    report("a node stopped in round 1", [record])
    assert record["answered"] == 2 and list(record["failures"]) == ["hall"]


def test_a_slow_and_lossy_link_loses_nothing(federation):
    relay = Relay(federation.deployment.port, delay=0.2, loss=0.02)
    federation.start("hall", port=relay.port)
    federation.start("kitchen")
    federation.start("car")
    run_id = federation.deployment.run(**KEYS)
    assert lost(finished(federation, run_id, "200 ms and 2 % loss on one link")) == []


def test_a_partition_of_90_seconds_costs_at_most_that_client_s_round(federation):
    relay = Relay(federation.deployment.port)
    federation.start("hall", port=relay.port)
    federation.start("kitchen")
    federation.start("car")
    run_id = federation.deployment.run(**KEYS)
    federation.nodes["hall"].says(TRAINING, 120)
    relay.cut.set()
    time.sleep(90)
    relay.cut.clear()
    rounds = finished(federation, run_id, "90 s without a link in round 1")
    assert lost(rounds) in ([], [(1, "hall")], [(1, "hall"), (2, "hall")])
    assert rounds[-1]["answered"] == 3


def test_the_superlink_is_killed_and_comes_back_and_the_run_goes_on(federation):
    for name in DEVICES:
        federation.start(name)
    run_id = federation.deployment.run(**KEYS)
    wait_until(lambda: len(federation.deployment.rounds()) == 1, 200, "round 1")
    federation.nodes["hall"].says(TRAINING, 60)
    federation.deployment.superlink.kill()
    time.sleep(2)  # the unit's RestartSec; Flower gives a run up after 60 s without a sign of it
    federation.deployment.superlink = federation.deployment.start_superlink()
    rounds = finished(
        federation, run_id, "the SuperLink killed in round 2, started again after 2 s"
    )
    assert len(lost(rounds)) <= 1


def test_the_server_app_is_killed_and_a_run_takes_over_from_its_checkpoint(federation):
    for name in DEVICES:
        federation.start(name)
    run_id = federation.deployment.run(**KEYS)
    wait_until(lambda: len(federation.deployment.rounds()) == 2, 300, "round 2")
    (server_app,) = (
        process
        for process in psutil.Process(federation.deployment.superexec.process.pid).children(True)
        if any("flwr-serverapp" in word for word in process.cmdline())
    )
    server_app.kill()
    assert federation.deployment.finish(run_id, 200) == "finished:failed"
    resumed = {**KEYS, "resume": str(federation.deployment.run_folder), "output": ""}
    again = federation.deployment.run(**resumed)
    rounds = finished(federation, again, "the server app killed in round 3, resumed")
    assert lost(rounds) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk wants root")
def test_a_full_disk_fails_that_node_s_rounds_by_name(federation, tmp_path):
    small = tmp_path / "node-hall"  # its FLWR_HOME and its caches
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        for name in DEVICES:
            federation.start(name)
        run_id = federation.deployment.run(**KEYS)
        assert federation.deployment.finish(run_id, 600) == "finished:completed"
        rounds = federation.deployment.rounds()
        report("a full disk", rounds)
        assert all(record["answered"] == 2 for record in rounds)
        assert all(len(record["failures"]) == 1 for record in rounds), rounds[0]["failures"]
        print(rounds[0]["failures"], federation.nodes["hall"].log[-1500:])
        assert (
            "No space left on device" in str(rounds[0]["failures"]) + federation.nodes["hall"].log
        )
    finally:
        for program in federation.deployment.programs:
            program.stop()
        subprocess.run(["umount", str(small)], check=True)


def test_a_client_that_trains_for_longer_than_any_heartbeat_is_no_failure(federation, tmp_path):
    for name in DEVICES:
        federation.start(name, extra="slow=150" if name == "hall" else "")
    run_id = federation.deployment.run(
        app_with(tmp_path, Path(misbehaving.__file__)), **{**KEYS, "rounds": 1}
    )
    assert federation.deployment.finish(run_id, 400) == "finished:completed"
    (record,) = federation.deployment.rounds()
    report("a client of 150 s", [record])
    assert record["answered"] == 3 and record["train-seconds"] > 150
