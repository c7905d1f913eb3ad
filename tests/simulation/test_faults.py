"""Faults in a real run: real processes, Ray and ``flwr run`` (``pytest -m programs``)."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from efmodel import EarlyExitForCTC
from efmodel.model.loading import starting_model
from efmodel.settings import Settings
from server_app.run_folder import read_metrics
from simulation.superlink import LocalSuperLink, run_id_in
from tests.app_with import app_with
from tests.simulation import faulty
from tests.simulation.faulty import FAULTS, KILLED_ONCE, NODES, SLEEP, TIMEOUT


@pytest.mark.programs
def test_a_round_goes_on_without_those_that_fail(tmp_path):
    """In round 1 a client raises, one sends nan, one a wrong shape, one sleeps, two are killed.

    One is killed whenever it is asked, the other only once.
    """
    keys = {
        "rounds": 2, "fraction-train": 1.0, "round-timeout": TIMEOUT, "evaluate-every": 2,
        "min-train-nodes": NODES, "min-nodes": NODES, "output": str(tmp_path / "run"),
    }  # fmt: skip
    config = " ".join(f"{key}={json.dumps(value)}" for key, value in keys.items())
    # Two actors: while one sleeps, the other is killed three times, and serves the rest.
    federation = f"num-supernodes={NODES} client-resources-num-cpus=1 init-args-num-cpus=2"
    with LocalSuperLink(preload=False) as superlink:  # these clients do not need torch
        command = superlink.flwr("run", str(app_with(tmp_path, Path(faulty.__file__))), "--stream")
        command += ["--run-config", config, "--federation-config", federation]
        done = subprocess.run(
            command, env=superlink.environment, capture_output=True, text=True, timeout=600
        )
        run_id = run_id_in(done.stdout)
        assert run_id, done.stdout + done.stderr
        assert superlink.status(run_id) == "finished:completed", done.stdout
    first, second = read_metrics(tmp_path / "run" / "metrics.jsonl")

    failures = {name: first["failures"][f"partition {name}"] for name in FAULTS}
    assert (first["failed"], first["answered"]) == (5, 4)
    assert first["train-seconds"] < SLEEP
    assert failures[3] == "out of battery"
    assert failures[4].startswith("exits.1") and "found nan or inf" in failures[4]
    assert failures[5].startswith("exits.1") and "wanted float32[" in failures[5]
    assert failures[6] == "no reply in time"
    assert "The actor" in failures[7]  # "died" or "is unavailable": Ray may find out either way
    assert f"partition {KILLED_ONCE}" in first["nodes"]
    assert second["answered"] == NODES and not second["failures"]
    for name, reason in failures.items():
        assert f"round 1: partition {name} left out: {reason}" in done.stdout

    # By number: each tensor moved by the weighted mean of its good trainers' moves, in both rounds.
    torch.manual_seed(0)
    start, _ = starting_model(Settings())
    owners = start.owner_exits()
    weights = {k: k + 1 for k in range(NODES)}
    wanted = dict.fromkeys(range(4), 0.0)
    for record in (first, second):
        good = [k for k in range(NODES) if f"partition {k}" not in record["failures"]]
        for owner in wanted:
            trainers = [k for k in good if 1 + k % 3 >= owner]
            if total := sum(weights[k] for k in trainers):  # without trainers it stays
                wanted[owner] += sum(weights[k] * k / 100 for k in trainers) / total
    model = EarlyExitForCTC.from_pretrained(tmp_path / "run" / "model").state_dict()
    for name, values in start.state_dict().items():
        moved = (model[name] - values).numpy()
        np.testing.assert_allclose(moved, wanted[owners[name]], atol=1e-5, err_msg=name)
