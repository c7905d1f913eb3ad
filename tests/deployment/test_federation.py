"""Three devices of capacity 1, 2, 3 and a server: real programs, TLS, keys, a database.

Run with ``pytest -m deployment``.
"""

import numpy as np
import pytest

from efmodel import EarlyExitForCTC
from tests.deployment.deployment import Deployment
from tests.deployment.one_process import one_process
from tests.deployment.relay import Relay
from tests.deployment.speech import device_folders

CAPACITIES = {"kitchen": 1, "car": 2, "server-room": 3}
KEYS = {
    "rounds": 2, "min_nodes": 3, "min_train_nodes": 3, "fraction_train": 1.0, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "batch_seconds": 6.0,
}  # fmt: skip
# Bytes beside the tensors, whatever the capacity: names, the tokenizer, the app itself (once,
# 1.1 MB), the headers of queries and heartbeats.
BESIDE = 2_000_000


@pytest.mark.deployment
def test_the_model_is_what_one_process_computes_and_each_node_gets_its_prefix(tmp_path):
    speech = device_folders(tmp_path / "speech", list(CAPACITIES), utterances=12)
    with Deployment(tmp_path, list(CAPACITIES)) as deployment:
        ids = {name: deployment.register(name) for name in CAPACITIES}
        relays = {name: Relay(deployment.port) for name in CAPACITIES}
        torn = deployment.folder / "node-kitchen" / "apps" / "torn-by-a-full-disk"
        torn.mkdir(parents=True)
        for name, capacity in CAPACITIES.items():
            config = f"capacity={capacity}"
            deployment.start_node(name, config, speech[name], port=relays[name].port)
        run_id = deployment.run(**KEYS)
        assert deployment.finish(run_id, 400) == "finished:completed"
        rounds = deployment.rounds()
    assert [record["answered"] for record in rounds] == [3] * KEYS["rounds"]
    assert not torn.exists()
    assert rounds[0]["capacities"] == CAPACITIES
    trained = EarlyExitForCTC.from_pretrained(deployment.run_folder / "model")

    owners = trained.owner_exits()
    sizes = {name: 4 * tensor.numel() for name, tensor in trained.state_dict().items()}
    for name, capacity in CAPACITIES.items():
        prefix = sum(size for tensor, size in sizes.items() if owners[tensor] <= capacity)
        messages = KEYS["rounds"] + (capacity == 3)  # it also counts for the calibration
        received, sent = relays[name].down, messages * prefix
        relays[name].close()
        assert sent <= received <= sent + BESIDE, (name, sent, received)

    assert set(trained.config.exit_thresholds) == {"confidence", "entropy", "agreement"}

    nodes = {
        ids[name]: {"name": name, "capacity": capacity, "data-path": str(speech[name])}
        for name, capacity in CAPACITIES.items()
    }
    alone = one_process(tmp_path / "alone", nodes, KEYS, rounds)
    for name, tensor in alone.items():
        np.testing.assert_allclose(
            trained.state_dict()[name].numpy(), tensor.numpy(), atol=1e-4, err_msg=name
        )
