"""The paper's equivalence (arXiv 2405.17376): one federated step is one centralised step."""

import random

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from efmodel import EarlyExitForCTC
from server_app.strategy import PartialFedAvg
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config

LR = 0.05


def speech(seed: int, utterances: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "input_values": torch.randn(utterances, 6000, generator=generator),
        "labels": torch.randint(3, 30, (utterances, 3), generator=generator),
    }


@pytest.mark.parametrize("seed", range(4))
def test_one_sgd_step_each_is_one_step_on_the_sum_of_the_clients_losses(seed):
    chance = random.Random(seed)
    sizes = {node: chance.randint(1, 4) for node in range(1, 5)}
    capacities = {node: chance.randint(1, 3) for node in sizes}
    torch.manual_seed(seed)
    start = EarlyExitForCTC(small_config(exit_loss="sum")).eval()  # no dropout

    def client(message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": capacities[node]})
            return Message(RecordDict({"config": answer}), reply_to=message)
        model = start.cut(message.content["config"]["capacity"])
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        model(**speech(node, sizes[node])).loss.backward()
        optimizer.step()
        metrics = MetricRecord({"num-examples": sizes[node]})
        arrays = ArrayRecord(model.state_dict())
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    strategy = PartialFedAvg(start.owner_exits(), coverage="cohort", min_train_nodes=len(sizes))
    grid = LocalGrid(client, sizes)
    sent = strategy.configure_train(1, ArrayRecord(start.state_dict()), ConfigRecord(), grid)
    federated, _ = strategy.aggregate_train(1, grid.send_and_receive(sent))

    # Centralised: each client's loss is the sum over its own exits, weighted by its examples.
    total = sum(sizes.values())
    central = start.cut(3)
    optimizer = torch.optim.SGD(central.parameters(), lr=LR)
    loss = sum(
        sizes[node] / total * central(**speech(node, sizes[node])).losses[: capacities[node]].sum()
        for node in sizes
    )
    loss.backward()
    optimizer.step()
    for name, weight in central.state_dict().items():
        np.testing.assert_allclose(federated[name].numpy(), weight.numpy(), atol=1e-5, err_msg=name)
