"""The rounds of a deployment computed again in this process, without a network."""

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
    """Compute the same rounds in this process, with the same two apps, and return the model.

    AdamW's step for a gradient near 0 depends on the gradient's last bits. So sums are computed as
    in the deployment: on one thread, over the replies in the order in which they arrived.

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
    devices = {
        node: Context(
            run_id=1, node_id=node, state=RecordDict(), run_config=run_config, node_config=config
        )
        for node, config in nodes.items()
    }

    def play(message: Message) -> Message:
        return client_app.app(message, devices[message.metadata.dst_node_id])

    server = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)
    ids = {config["name"]: node for node, config in nodes.items()}
    order = iter([ids[name] for name in record["nodes"]] for record in rounds)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = federate(InOrder(play, devices, order), server)
    finally:
        torch.set_num_threads(threads)
    assert len(rounds) == len(list(run.metrics.open()))
    return EarlyExitForCTC.from_pretrained(run.model).state_dict()


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
