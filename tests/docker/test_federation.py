"""A server and devices of capacity 1, 2, 3 in containers: docker/compose.federation.yml.

Run with ``pytest -m docker``: 10 minutes.
"""

import httpx
import numpy as np
import pytest

from efmodel import EarlyExitForCTC
from tests.deployment.one_process import one_process
from tests.deployment.speech import ARABIC, device_folders
from tests.docker.federation import DEVICES, OWNER, SERVER, Federation, docker

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images"), pytest.mark.timeout(3600)]

KEYS = {
    "rounds": 5, "min_nodes": 3, "min_train_nodes": 3, "fraction_train": 1.0, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "batch_seconds": 6.0, "calibrate": "off",
}  # fmt: skip
# Sums on one thread have the same last bits in a container and here.
ONE_THREAD = {"services": {name: {"environment": {"OMP_NUM_THREADS": "1"}} for name in DEVICES}}
# Prints which of the given addresses accept a connection.
REACH = """
import socket, sys
for word in sys.argv[1:]:
    host, _, port = word.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
        print(word)
    except OSError:
        pass
"""


@pytest.mark.slow
def test_a_run_started_from_outside_computes_what_one_process_does(tmp_path):
    speech = device_folders(tmp_path / "speech", DEVICES, 8, speakers=3, source=ARABIC)
    with Federation(tmp_path, ONE_THREAD) as federation:
        ids = federation.register_all()
        federation.wait_for(ids.values())
        restarts = restart_counts(federation)  # a device that was not registered yet has some
        assert not any(restarts[service] for service in SERVER)
        run_id = federation.run(**KEYS)
        check_that_it_is_shut(federation)
        assert federation.finish(run_id, 1800) == "finished:completed"
        rounds = federation.rounds()
        check_health(federation)
        assert restart_counts(federation) == restarts
    print([(record["round"], round(record["train-seconds"])) for record in rounds])
    assert [record["answered"] for record in rounds] == [3] * KEYS["rounds"]
    assert rounds[0]["capacities"] == {"one": 1, "two": 2, "three": 3}

    written = [federation.run_folder, *federation.run_folder.rglob("*")]
    assert {path.stat().st_uid for path in written} == {OWNER}
    nodes = {
        ids[name]: {"name": name, "capacity": capacity, "data-path": str(speech[name])}
        for capacity, name in enumerate(DEVICES, start=1)
    }
    alone = one_process(tmp_path / "alone", nodes, KEYS, rounds)
    trained = EarlyExitForCTC.from_pretrained(federation.run_folder / "model").state_dict()
    for name, tensor in alone.items():
        np.testing.assert_allclose(trained[name].numpy(), tensor.numpy(), atol=1e-4, err_msg=name)


def restart_counts(federation: Federation) -> dict[str, int]:
    """Return how often each service's container was started again."""
    return {name: federation.inspect(name)["RestartCount"] for name in SERVER + DEVICES}


def check_health(federation: Federation) -> None:
    """Everything runs, and what has a health check passes it."""
    for service in SERVER + DEVICES:
        container = federation.inspect(service)
        assert container["State"]["Running"], service
        health = container["State"].get("Health", {"Status": "none"})["Status"]
        assert health == ("none" if service in ("gate", "superexec") else "healthy"), service


def check_that_it_is_shut(federation: Federation) -> None:
    """Nobody is root or writes to an image, and the gate is all that other networks reach."""
    addresses, published = [], []
    for service in SERVER + DEVICES:
        container = federation.inspect(service)
        users = docker("exec", federation.container(service), "sh", "-c",
                       "cat /proc/[0-9]*/status | grep ^Uid").split("\n")  # fmt: skip
        assert {int(line.split()[1]) for line in users if line} == {OWNER}, service
        assert container["HostConfig"]["ReadonlyRootfs"], service
        assert container["HostConfig"]["CapDrop"] == ["ALL"], service
        for network in container["NetworkSettings"]["Networks"].values():
            addresses += [f"{network['IPAddress']}:{port}" for port in (8000, 9094)]
        for bindings in container["NetworkSettings"]["Ports"].values():
            published += [(service, entry["HostIp"]) for entry in bindings or []]
    assert {host for service, host in published if service != "gate"} == {"127.0.0.1"}

    gate, control = f"host:{federation.gate}", f"host:{federation.port}"
    assert reachable("bridge", [gate, control, *addresses]) == [gate]
    inside = reachable(f"{federation.project}_devices", ["gate:8000", "superlink:8000", *addresses])
    of_the_server = federation.inspect("superlink")["NetworkSettings"]["Networks"]
    assert "gate:8000" in inside and "superlink:8000" not in inside
    for network in of_the_server.values():
        assert f"{network['IPAddress']}:8000" not in inside

    # Through the gate there is the Fleet API alone.
    url = f"https://127.0.0.1:{federation.gate}"
    for path, status in (("/health", 200), ("/v1/control/list-nodes", 403), ("/", 403)):
        assert httpx.get(url + path, verify=False).status_code == status, path


def reachable(network: str, addresses: list[str]) -> list[str]:
    """Return those of the addresses that a new container on the network can connect to."""
    there = ["--network", network, "--add-host", "host:host-gateway", "python:3.11-slim-bookworm"]
    return docker("run", "--rm", *there, "python3", "-c", REACH, *addresses).split()
