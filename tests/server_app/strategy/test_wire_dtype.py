"""A whole round in each wire type: the same model, fewer bytes, checked like any other."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app.mods import wire_format
from efmodel import protocol
from server_app.strategy import PartialFedAvg
from server_app.strategy.exchange import tensor_bytes
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import drifting

OWNERS = {"front": 0, "one": 1}
CAPACITIES = {1: 1, 2: 1}


def start() -> ArrayRecord:
    rng = np.random.default_rng(0)
    return ArrayRecord({n: Array(rng.normal(size=(64, 64)).astype(np.float32)) for n in OWNERS})


def federate(wire_dtype: str, rounds: int = 3, spoil=lambda reply: None):
    strategy = PartialFedAvg(OWNERS, wire_dtype=wire_dtype)
    states = {node: RecordDict() for node in CAPACITIES}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(1, node, {}, states[node], {})
        reply = wire_format(message, context, lambda m, c: drifting(CAPACITIES)(m))
        spoil(reply)
        return reply

    grid = LocalGrid(play, CAPACITIES)
    arrays, replies = start(), []
    for server_round in range(1, rounds + 1):
        messages = list(strategy.configure_train(server_round, arrays, ConfigRecord(), grid))
        sent = sum(map(tensor_bytes, messages))  # before the clients unpack what they got
        replies = list(grid.send_and_receive(messages))
        new, _ = strategy.aggregate_train(server_round, replies)
        arrays = new or arrays
    return strategy, arrays, sent, sum(map(tensor_bytes, replies))


@pytest.mark.parametrize(
    ("kind", "down", "up", "error"), [("float16", 0.5, 0.5, 1e-3), ("int8", 0.5, 0.25, 5e-3)]
)
def test_a_round_in_fewer_bytes_is_nearly_the_same_round(kind, down, up, error):
    _, wanted, whole_down, whole_up = federate("float32")
    strategy, found, sent, received = federate(kind)
    assert not strategy.report.failed
    assert sent / whole_down == pytest.approx(down, rel=0.02)
    assert received / whole_up == pytest.approx(up, rel=0.03)
    for name in OWNERS:
        assert found[name].dtype == "float32"
        np.testing.assert_allclose(found[name].numpy(), wanted[name].numpy(), atol=error)


def test_the_models_own_rounding_is_never_added_to_it():
    """float16 down loses a thousandth of each value; a client that changes nothing costs none."""
    strategy = PartialFedAvg(OWNERS, wire_dtype="float16", min_train_nodes=2)

    def still(message):
        reply = drifting(CAPACITIES)(message)
        if message.metadata.message_type == "train":
            reply.content["arrays"] = message.content["arrays"]
        return reply

    def play(message):
        context = Context(1, 1, {}, RecordDict(), {})
        return wire_format(message, context, lambda m, c: still(m))

    grid = LocalGrid(play, CAPACITIES)
    messages = strategy.configure_train(1, start(), ConfigRecord(), grid)
    new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert all(np.array_equal(new[n].numpy(), start()[n].numpy()) for n in OWNERS)


@pytest.mark.parametrize("scale", [float("nan"), 0.0, -1.0, None])
def test_a_scale_that_is_no_number_above_zero_is_refused(scale):
    def spoil(reply):
        if protocol.SCALES in reply.content and reply.metadata.src_node_id == 2:
            reply.content[protocol.SCALES]["one"] = scale if scale is not None else "none"

    strategy, _, _, _ = federate("int8", rounds=1, spoil=spoil)
    assert "one: found scale" in strategy.report.failed["2"]


def test_a_plain_reply_to_an_int8_request_is_refused():
    strategy = PartialFedAvg(OWNERS, wire_dtype="int8")
    grid = LocalGrid(drifting(CAPACITIES), CAPACITIES)
    messages = strategy.configure_train(1, start(), ConfigRecord(), grid)
    assert strategy.aggregate_train(1, grid.send_and_receive(messages)) == (None, None)
    assert "wanted int8[64, 64]" in strategy.report.failed["1"]
