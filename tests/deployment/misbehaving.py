"""A ClientApp for fault tests: the real one, on devices that misbehave as configured."""

import re
import time

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

import client_app

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer; a liar (``claims=3``) claims a larger capacity than it has."""
    reply = client_app.app(message, context)
    if "claims" in context.node_config:
        reply.content["config"]["capacity"] = context.node_config["claims"]
    return reply


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train; a liar returns less, a slow device (``slow=150``) takes 150 seconds longer."""
    time.sleep(float(context.node_config.get("slow", 0)))
    if "claims" not in context.node_config:
        return client_app.app(message, context)
    config, arrays = message.content["config"], message.content["arrays"]
    config["capacity"] = context.node_config["capacity"]
    kept = {name: array for name, array in arrays.items() if _is_shallow(name)}
    message.content["arrays"] = ArrayRecord(kept)
    return client_app.app(message, context)


def _is_shallow(name: str) -> bool:
    """Return whether the preset tiny needs the tensor at exit 1: front end, layers 0-1, head 1."""
    layer = re.match(r"encoder\.layers\.(\d+)", name)
    head = re.match(r"exits\.(\d+)", name)
    return (layer is None or int(layer[1]) < 2) and (head is None or head[1] == "1")
