"""Batch norm's statistics under partial aggregation: anybody's torch model, not one of ours."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch import nn

from client_app.mods import wire_format
from server_app.strategy import PartialFedAvg
from simulation.in_process_grid import LocalGrid

CAPACITIES = {1: 1, 2: 2, 3: 2}
EXAMPLES = {1: 10, 2: 20, 3: 40}
BATCHES = {1: 2, 2: 3, 3: 8}  # forward passes, which num_batches_tracked counts


def cut(capacity: int) -> nn.ModuleDict:
    """A model of two layers; the second one is for those of capacity 2."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(capacity)]
    return nn.ModuleDict({str(number): layer for number, layer in enumerate(layers, start=1)})


def trained(node: int, arrays: ArrayRecord) -> ArrayRecord:
    """One SGD step per batch, of data whose mean is the node's own."""
    model = cut(CAPACITIES[node]).train()
    model.load_state_dict(arrays.to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(node)
    for _ in range(BATCHES[node]):
        hidden = node + torch.randn(16, 4, generator=generator)
        for layer in model.values():
            hidden = layer(hidden)
        optimizer.zero_grad()
        hidden.square().mean().backward()
        optimizer.step()
    return ArrayRecord(model.state_dict())


@pytest.mark.parametrize(("wire_dtype", "error"), [("float32", 1e-6), ("int8", 2e-2)])
def test_buffers_are_averaged_over_their_trainers_and_counts_stay_whole(wire_dtype, error):
    start = cut(2).state_dict()
    for value in start.values():
        if value.dtype == torch.int64:
            value.fill_(2**33)  # more than a float32 can count
    replies = {}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": CAPACITIES[node]})
            return Message(RecordDict({"config": answer}), reply_to=message)

        def client(message: Message, context: Context) -> Message:
            replies[node] = trained(node, message.content["arrays"])
            metrics = MetricRecord({"num-examples": EXAMPLES[node]})
            content = RecordDict({"arrays": replies[node], "metrics": metrics})
            return Message(content, reply_to=message)

        return wire_format(message, Context(1, node, {}, RecordDict(), {}), client)

    owners = {name: int(name.split(".")[0]) for name in start}
    strategy = PartialFedAvg(owners, min_train_nodes=3, wire_dtype=wire_dtype)
    grid = LocalGrid(play, CAPACITIES)
    messages = strategy.configure_train(1, ArrayRecord(start), ConfigRecord(), grid)
    new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert not strategy.report.failed

    for name, owner in owners.items():
        nodes = [node for node, capacity in CAPACITIES.items() if capacity >= owner]
        values = [replies[node][name].numpy().astype(np.float64) for node in nodes]
        mean = np.average(values, axis=0, weights=[EXAMPLES[node] for node in nodes])
        if name.endswith("num_batches_tracked"):
            assert new[name].dtype == "int64" and new[name].numpy() == round(float(mean))
        else:
            np.testing.assert_allclose(new[name].numpy(), mean, atol=error, err_msg=name)
    # (2 x 10 + 3 x 20 + 8 x 40) / 70 = 5.7 batches; nodes 2 and 3 alone: 6.3
    tracked = [int(new[f"{n}.1.num_batches_tracked"].numpy()) - 2**33 for n in (1, 2)]
    assert tracked == [6, 6]
    variances = {n: a.numpy() for n, a in new.items() if n.endswith("running_var")}
    assert all((variance > 0).all() for variance in variances.values())
    # What came of it is a model: it loads, and its statistics are not where they started.
    whole = cut(2)
    whole.load_state_dict(new.to_torch_state_dict())
    assert whole["2"][1].running_mean.abs().min() > 0
