"""Whole runs of real clients in this process: secure aggregation gives the plain run's model."""

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict

from client_app import app
from efmodel import EarlyExitForCTC
from server_app.federation import federate
from server_app.run_folder import read_metrics
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults

NODES = 4


def run(folder: Path, **changes: Any) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the model and the metrics of a run of four clients, three of them at full depth."""
    keys = {
        "rounds": 1, "local-epochs": 1, "fraction-train": 1.0, "max-speakers": 2,
        "partition": "iid", "max-utterances": 3, "capacities": "0.25,0,0.75",
        "lr-schedule": "constant", "calibrate": "off",
    }  # fmt: skip
    config = {**defaults(), **keys, **changes}
    if "resume" not in changes:
        config["output"] = str(folder)
    states = {node: RecordDict() for node in range(1, NODES + 1)}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"partition-id": node - 1, "num-partitions": NODES}
        return app(message, Context(1, node, place, states[node], config))

    done = federate(LocalGrid(play, states), Context(1, 0, {}, RecordDict(), config))
    model = EarlyExitForCTC.from_pretrained(done.model)
    return {n: t.numpy() for n, t in model.state_dict().items()}, read_metrics(done.metrics)


def test_a_secure_run_gives_the_plain_run_s_model_and_resumes(tmp_path):
    plain, (in_the_clear,) = run(tmp_path / "plain")
    changes = {"secure-aggregation": True, "secagg-max-weight": 10.0}  # three utterances each
    secure, (masked,) = run(tmp_path / "secure", **changes)
    for name, values in plain.items():
        np.testing.assert_allclose(secure[name], values, atol=2e-6, rtol=0, err_msg=name)
    for key in ("answered", "trainers-per-exit", "failures"):
        assert masked[key] == in_the_clear[key], key
    for way in ("bytes-down", "bytes-up"):
        # The messages beside the training, and names: of a model of 2 MB, they are little.
        assert in_the_clear[way] < masked[way] < 1.05 * in_the_clear[way]

    changes |= {"rounds": 2, "resume": str(tmp_path / "secure")}
    _, records = run(tmp_path / "secure", **changes)
    assert [record["answered"] for record in records] == [NODES, NODES]
