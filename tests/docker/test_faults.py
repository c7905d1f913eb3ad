"""Faults of containers and their network: each costs at most that client's part in a round.

Run with ``pytest -s -m docker tests/docker/test_faults.py``: half an hour.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from server_app.keys import make_keys
from tests.deployment.deployment import wait_until
from tests.deployment.speech import ARABIC, device_folders
from tests.docker.federation import DEVICES, SERVER, Federation, docker

pytestmark = [
    pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("images"),
    pytest.mark.timeout(7200),
]  # fmt: skip

KEYS = {
    "min_nodes": 3, "min_train_nodes": 2, "fraction_train": 1.0, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "round_timeout": 300.0, "calibrate": "off",
}  # fmt: skip
TRAINING = "Receiving: train message"


def speech(folder: Path) -> None:
    """Write three speakers' recordings for each device."""
    device_folders(folder / "speech", DEVICES, 8, speakers=3, source=ARABIC)


def lost(rounds: list[dict]) -> list[tuple[int, str]]:
    """Return (round, client) for each reply that is missing."""
    return [(record["round"], name) for record in rounds for name in record["failures"]]


def report(what: str, federation: Federation) -> None:
    """Print a line for the documentation's table of faults (``pytest -s``)."""
    rounds = federation.rounds()
    seconds = [round(record["train-seconds"]) for record in rounds]
    print(f"\n{what}: rounds took {seconds} s, lost {lost(rounds)}", flush=True)
    for record in rounds:
        for name, why in record["failures"].items():
            print(f"  round {record['round']}, {name}: {why}", flush=True)


def lose_power(federation: Federation, *services: str) -> None:
    """Kill a container's first process from outside, which the engine takes for a crash."""
    for service in services:
        os.kill(federation.inspect(service)["State"]["Pid"], signal.SIGKILL)


def wait_for_round(federation: Federation, number: int) -> None:
    """Wait until round ``number`` is over."""
    wait_until(lambda: len(federation.rounds()) >= number, 900, f"the end of round {number}")


def wait_for_training(federation: Federation, service: str, messages: int) -> None:
    """Wait until a device has received that many messages to train since its container started."""
    wait_until(
        lambda: federation.log(service).count(TRAINING) >= messages, 900, f"{service} trains"
    )


def test_devices_that_stop_die_or_lose_their_network_and_a_superlink_that_dies(tmp_path):
    speech(tmp_path)
    with Federation(tmp_path) as federation:
        ids = federation.register_all()
        federation.wait_for(ids.values())
        run_id = federation.run(**KEYS, rounds=5)

        wait_for_training(federation, "three", 1)
        began = time.monotonic()
        docker("stop", federation.container("three"))
        print(f"\nround 1: stopped after {time.monotonic() - began:.0f} s")
        docker("start", federation.container("three"))
        wait_for_round(federation, 1)

        wait_for_training(federation, "two", 2)
        lose_power(federation, "two")
        began = time.monotonic()
        wait_for_round(federation, 2)
        federation.wait_for(ids.values())
        print(f"round 2: killed, and in again within {time.monotonic() - began:.0f} s")

        wait_for_training(federation, "one", 3)
        network, container = f"{federation.project}_devices", federation.container("one")
        docker("network", "disconnect", network, container)
        time.sleep(90)
        docker("network", "connect", "--alias", "one", network, container)

        lose_power(federation, "superlink")
        assert federation.finish(run_id, 2400) == "finished:completed"
        assert federation.inspect("superlink")["RestartCount"] == 1
        report("stopped in 1, killed in 2, cut off later, then the SuperLink killed", federation)
        rounds = federation.rounds()
        assert len(rounds) == 5 and len(lost(rounds)) <= 5
        assert rounds[-1]["answered"] == 3


def test_a_host_that_loses_power_goes_on_from_its_checkpoint(tmp_path):
    speech(tmp_path)
    with Federation(tmp_path) as federation:
        ids = federation.register_all()
        federation.wait_for(ids.values())
        run_id = federation.run(**KEYS, rounds=3)
        wait_for_round(federation, 1)
        docker("kill", *map(federation.container, SERVER + DEVICES))
        docker("start", *map(federation.container, SERVER + DEVICES))
        federation.wait_for(ids.values())
        assert federation.finish(run_id, 300) == "finished:failed"
        again = federation.run(**{**KEYS, "output": "", "resume": federation.output}, rounds=3)
        assert federation.finish(again, 1800) == "finished:completed"
        report("all containers killed in round 2, started again, resumed", federation)
        assert [record["round"] for record in federation.rounds()] == [1, 2, 3]


def test_limits_of_memory_and_disk_an_old_image_new_keys_and_a_revoked_device(tmp_path):
    speech(tmp_path)
    tiny_disk = {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=64k,uid=10001"}}
    override = {
        "services": {
            "two": {"mem_limit": "700m"},
            "three": {"image": old_image(), "mem_limit": "4g", "environment": {"NODE_CONFIG": ""}},
        },
        "volumes": {"state-one": tiny_disk},
    }
    with Federation(tmp_path, override) as federation:
        ids = federation.register_all()
        federation.wait_for(ids.values())
        run_id = federation.run(**KEYS, rounds=2)
        assert federation.finish(run_id, 2400) == "finished:completed"
        report(
            "a full disk (one), 700 MB (two), an old image that measures in 4 GB (three)",
            federation,
        )
        failures = [record["failures"] for record in federation.rounds()]
        for service in DEVICES:
            print(service, federation.log(service)[-1500:])
        assert all("one" in round or str(ids["one"]) in round for round in failures)
        assert federation.rounds()[-1]["answered"] >= 1

        # A device with a new pair of keys is a new node; a revoked one is turned away.
        make_keys(federation.keys, [], ["three"], renew=True)
        federation.give_to_owner()
        for name in ("three", "two"):
            federation.flwr("supernode", "unregister", str(ids[name]))
        renewed = federation.register("three")
        docker("restart", federation.container("three"), federation.container("two"))
        federation.wait_for([renewed])
        federation.says("two", "2004", 300)
        assert ids["two"] not in federation.online()


def old_image() -> str:
    """Return an image whose installed EF-ASR speaks an older protocol."""
    tag = "ef-asr-test-old"
    site = "/opt/ef-asr/lib/python3.11/site-packages/efmodel/protocol.py"
    lines = ["FROM ef-asr-supernode", "USER root"]
    lines += [f"RUN sed -i 's/^PROTOCOL = .*/PROTOCOL = 1/' {site}", "USER ef-asr"]
    done = subprocess.run(["docker", "build", "--tag", tag, "-"], input="\n".join(lines),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tag
