"""Secure aggregation between real programs: three devices, of which one is killed in a stage.

``pytest -m slow tests/deployment/test_secure.py`` takes about five minutes a stage: a SuperLink
needs one to notice that a SuperNode is gone.
"""

import pytest

from tests.deployment.deployment import Deployment
from tests.deployment.speech import device_folders

pytestmark = [pytest.mark.deployment, pytest.mark.slow, pytest.mark.timeout(2400)]

DEVICES = ["kitchen", "car", "hall"]
KEYS = {
    "rounds": 2, "min_nodes": 2, "min_train_nodes": 3, "fraction_train": 1.0, "local_epochs": 1,
    "data": "audiofolder", "data_path": "", "round_timeout": 300.0, "calibrate": "off",
    "secure_aggregation": True, "secagg_min_trainers": 2,  # two that are left must do here
}  # fmt: skip
# A message, as a SuperNode's log names it, and what the report says of the device killed in it.
STAGES = {
    "query.keys": "keys: ", "query.shares": "shares: ", "query.check": "check: ", "train": "",
    "query.unmask": "",
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_without_a_device_that_is_killed_in_a_stage(stage, tmp_path):
    speech = device_folders(tmp_path, DEVICES, utterances=8)
    with Deployment(tmp_path, DEVICES) as deployment:
        nodes = {}
        for name in DEVICES:
            deployment.register(name)
            nodes[name] = deployment.start_node(name, "capacity=3", speech[name])
        for node in nodes.values():
            node.says("SuperNode ID", 300)
        run_id = deployment.run(**KEYS)
        nodes["hall"].says(f"Receiving: {stage} message", 600)
        nodes["hall"].kill()
        assert deployment.finish(run_id, 1500) == "finished:completed"
        first, second = deployment.rounds()
    seconds = [record["train-seconds"] for record in (first, second)]
    print(f"\nkilled in {stage}: rounds took {seconds} s, {first['failures']}")
    assert second["answered"] == 2
    if stage == "query.unmask":  # two shares suffice, and what it trained is in the sum
        assert first["answered"] == 3
        # Nobody waited for it, so round 2 may ask it before the SuperLink knows that it is gone.
        assert second["failures"].keys() <= {"hall"}
    else:
        assert first["answered"] == 2
        assert first["failures"]["hall"].startswith(STAGES[stage])
        assert second["failures"] == {}
