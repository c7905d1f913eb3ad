"""The resources that Flower asks Ray for, with and without a running cluster."""

import os

from simulation.simulate import federation


def asked(*arguments) -> dict[str, float]:
    pairs = (pair.split("=") for pair in federation(*arguments).split())
    return {key: float(value) for key, value in pairs}


def test_clients_share_gpus_and_have_a_core_each(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert asked(5, 0.25) == {
        "num-supernodes": 5,
        "client-resources-num-cpus": 1,
        "client-resources-num-gpus": 0.25,
        "init-args-num-cpus": len(os.sched_getaffinity(0)),
    }
    assert asked(5, 0.0)["client-resources-num-gpus"] == 0


def test_a_cluster_that_is_there_is_taken_as_it_is(monkeypatch):
    """Ray refuses a number of cores when it connects to a running cluster."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert not any(key.startswith("init-args") for key in asked(5, 0.0))
