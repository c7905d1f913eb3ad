"""A ClientApp for test_faults.py: it does arithmetic instead of training, and fails in round 1.

Partition k has capacity 1 + k % 3, reports k + 1 examples and moves every tensor by k / 100.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

TIMEOUT = 40.0  # seconds, of a round
SLEEP = 50  # seconds; a simulation waits for its last client
NODES = 9
FAULTS = {3: "raises", 4: "nan", 5: "shape", 6: "sleeps", 7: "killed"}
KILLED_ONCE = 8  # what else it is asked, it does

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    answer = ConfigRecord({"capacity": 1 + partition % 3, "name": f"partition {partition}"})
    return Message(RecordDict({"config": answer}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    first = message.content["config"]["server-round"] == 1
    fault = FAULTS.get(partition) if first else None
    if fault == "raises":
        raise RuntimeError("out of battery")
    if fault == "sleeps":
        time.sleep(SLEEP)
    killed = Path(context.run_config["output"]) / f"killed-{partition}"
    if fault == "killed" or partition == KILLED_ONCE and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    moved = {}
    for name, array in message.content["arrays"].items():
        values = array.numpy() + np.float32(partition / 100)
        if fault == "nan" and name.startswith("exits.1"):
            values = values * np.float32("nan")
        if fault == "shape" and name.startswith("exits.1"):
            values = values[:1]
        moved[name] = Array(np.ascontiguousarray(values))
    metrics = MetricRecord({"num-examples": partition + 1})
    content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
    return Message(content, reply_to=message)
