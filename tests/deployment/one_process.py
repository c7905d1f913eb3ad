"""The rounds of a deployment computed again in one process, without a network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict

import client_app
from efmodel import EarlyExitForCTC
from server_app.federation import federate
from simulation.in_process_grid import LocalGrid


def one_process(
    folder: Path, nodes: dict[int, dict[str, Any]], keys: dict[str, Any], rounds: list[dict]
) -> dict[str, torch.Tensor]:
    """Compute the same rounds with the same two apps in a process of one thread; return the model.

    AdamW's step for a gradient near 0 depends on the gradient's last bits. So sums are computed as
    in the deployment: over the replies in the order in which they arrived, and on one thread by the
    same variable of the environment. ``torch.set_num_threads(1)`` gives other last bits.

    Parameters
    ----------
    folder : Path
        A new folder for the run.
    nodes : dict
        The node config of each node, by its id.
    keys : dict
        The run config, its keys written with ``_``.
    rounds : list of dict
        The lines of the deployment's ``metrics.jsonl``.
    """
    config = {key.replace("_", "-"): value for key, value in keys.items()}
    run_config = {**config, "output": str(folder)}
    ids = {config["name"]: node for node, config in nodes.items()}
    order = [[ids[name] for name in record["nodes"]] for record in rounds]
    subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps([run_config, [*nodes.items()], order]),
        env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, check=True,
    )  # fmt: skip
    assert len(rounds) == len(list((folder / "metrics.jsonl").open()))
    return EarlyExitForCTC.from_pretrained(folder / "model").state_dict()


def main() -> None:
    """Run what :func:`one_process` describes on standard input."""
    run_config, nodes, order = json.load(sys.stdin)
    devices = {
        node: Context(
            run_id=1, node_id=node, state=RecordDict(), run_config=run_config, node_config=config
        )
        for node, config in nodes
    }

    def play(message: Message) -> Message:
        return client_app.app(message, devices[message.metadata.dst_node_id])

    server = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)
    federate(InOrder(play, devices, iter(order)), server)


class InOrder(LocalGrid):
    """Returns each round's replies in a given order of the nodes."""

    def __init__(self, play, devices, order):
        super().__init__(play, devices)
        self.order = order

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        if replies and "arrays" in replies[0].content:
            place = next(self.order).index
            replies.sort(key=lambda reply: place(reply.metadata.src_node_id))
        return replies


if __name__ == "__main__":
    main()
