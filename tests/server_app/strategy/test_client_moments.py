"""Second moments of the clients' optimizers: averaged over trainers, kept, and sent again."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app import app
from efmodel import EarlyExitForCTC
from efmodel.protocol import SECOND_MOMENTS, describe_model
from efmodel.settings import Settings, SettingsError
from server_app.privacy import Privacy
from server_app.strategy import PartialFedAvg
from server_app.strategy.exchange import tensor_bytes
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config, write_folder
from tests.server_app.federation import OWNERS, SHAPE, drifting, run_rounds, tensors

CAPACITIES = {1: 1, 2: 2, 3: 3}


def strategy(**changes) -> PartialFedAvg:
    given = {"client_moments": "server", "min_train_nodes": 3, "node_timeout": 1.0}
    return PartialFedAvg(OWNERS, **{**given, **changes})


def answering(rows, examples=lambda node: 10, spoil=lambda record: None):
    """Return what a node does: it trains, and sends ``rows(node, name, received)`` of each."""
    trained = drifting(CAPACITIES, examples)

    def play(message: Message) -> Message:
        reply = trained(message)
        if message.metadata.message_type == "train":
            received = message.content[SECOND_MOMENTS]
            reply.content[SECOND_MOMENTS] = ArrayRecord(
                {
                    name: Array(rows(message.metadata.dst_node_id, name, received))
                    for name in message.content["arrays"]
                }
            )
            spoil(reply.content[SECOND_MOMENTS])
        return reply

    return play


def growing(node, name, received):
    """Return the moments received, nearer to 1 by a share that is the node's own."""
    before = received[name].numpy() if name in received else np.zeros(SHAPE[0], np.float32)
    return (before + 0.1 * node * (1 - before)).astype(np.float32)


def test_each_tensors_moments_are_the_mean_over_its_trainers():
    found, examples = strategy(), {1: 10, 2: 20, 3: 70}
    run_rounds(found, answering(growing, examples.get), CAPACITIES, tensors("start"), 1)
    means = {"front": (1 + 4 + 21) / 100, "two": (4 + 21) / 90, "three": 0.3}
    means["one"] = means["front"]
    assert found.moments[SECOND_MOMENTS].keys() == means.keys()
    for name, mean in means.items():
        np.testing.assert_allclose(found.moments[SECOND_MOMENTS][name], [mean] * 2, rtol=1e-6)


def test_a_client_is_sent_those_of_its_own_tensors_and_their_bytes_count():
    found = strategy()
    arrays = run_rounds(found, answering(growing), CAPACITIES, tensors("start"), 1)
    grid = LocalGrid(answering(growing), CAPACITIES)
    messages = found.configure_train(2, arrays, ConfigRecord(), grid)
    sent = {message.metadata.dst_node_id: message.content for message in messages}
    assert list(sent[1][SECOND_MOMENTS]) == ["front", "one"]
    assert list(sent[3][SECOND_MOMENTS]) == list(OWNERS)
    size = sum(len(array.data) for array in sent[3]["arrays"].values())
    assert tensor_bytes(messages[0]) - size == 4 * (128 + 4 * SHAPE[0])  # numpy's header, 2 numbers


def test_a_tensor_without_trainers_keeps_them():
    found = strategy()
    arrays = run_rounds(found, answering(growing), CAPACITIES, tensors("start"), 1)
    kept = found.moments[SECOND_MOMENTS]["three"].copy()
    found.nodes.selected = lambda node: node.capacity < 3
    run_rounds(found, answering(growing), [1, 2], arrays, 1, first=2)
    assert np.array_equal(found.moments[SECOND_MOMENTS]["three"], kept)
    # From 0.25, node 2 goes on by 0.2 of the rest.
    np.testing.assert_allclose(found.moments[SECOND_MOMENTS]["two"], 0.4, rtol=1e-6)


def test_a_resumed_run_goes_on_from_them():
    one, play = strategy(), answering(growing)
    arrays = run_rounds(one, play, CAPACITIES, tensors("start"), 2)
    other = strategy()
    other.restore(one.moments, one.nodes.met.values())
    for each in (one, other):
        run_rounds(each, play, CAPACITIES, arrays, 2, first=3)
    for name in OWNERS:
        moments = [each.moments[SECOND_MOMENTS][name] for each in (one, other)]
        assert np.array_equal(*moments)


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("one", [0.1, np.nan], r"one: found nan, wanted numbers from 0 to 1"),
        ("one", [0.1, -0.1], r"one: found -0.1, wanted numbers from 0 to 1"),
        ("one", [0.1, 2e30], r"one: found 2e\+30, wanted numbers from 0 to 1"),
        ("one", [0.1, 0.1, 0.1], r"one: found float32\[3\], wanted float32\[2\]"),
        ("four", [0.1, 0.1], "second-moments: found four, which the reply does not hold"),
    ],
)
def test_a_reply_whose_moments_cannot_be_true_is_left_out(name, values, complaint):
    found = strategy()

    def spoil(record: ArrayRecord) -> None:
        if "two" not in record:  # node 1
            record[name] = Array(np.array(values, np.float32))

    run_rounds(found, answering(growing, spoil=spoil), CAPACITIES, tensors("start"), 1)
    assert list(found.report.failed) == ["1"]
    with pytest.raises(AssertionError, match=complaint):
        raise AssertionError(found.report.failed["1"])
    np.testing.assert_allclose(found.moments[SECOND_MOMENTS]["one"], 0.25, rtol=1e-6)


def test_what_promises_that_nothing_else_leaves_a_client_is_refused():
    for keys in ({"secure_aggregation": True}, {"dp_noise_multiplier": 1.0}):
        bound = {"max_update_norm": "1.0", "weighting": "uniform"}
        with pytest.raises(ValueError, match="client-moments: found 'server', wanted fresh with"):
            strategy(**keys, **bound)
    with pytest.raises(SettingsError, match="wanted fresh with local-clip-norm"):
        Privacy.of(Settings(client_moments="server", local_clip_norm=1.0), {})


def test_two_rounds_of_real_clients(tokenizer, tmp_path):
    """Three devices of unlike capacity: what they learn differs from what they learn afresh."""
    rows = [(f"{s}{i}.wav", "one two", s, 0.6 + 0.1 * i) for s in "abc" for i in range(4)]
    folder = write_folder(tmp_path / "speech", rows)
    torch.manual_seed(0)
    model = EarlyExitForCTC(small_config())
    request = describe_model(model.config, tokenizer)
    run_config = {"local-epochs": 1, "batch-utterances": 4}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"capacity": node, "data-path": str(folder), "name": str(node)}
        return app(message, Context(1, node, place, RecordDict(), run_config))

    def trained(client_moments):
        federation = PartialFedAvg(
            model.owner_exits(), min_train_nodes=3, min_available_nodes=3,
            client_moments=client_moments, wire_dtype="int8",
        )  # fmt: skip
        grid, arrays, models = LocalGrid(play, CAPACITIES), ArrayRecord(model.state_dict()), []
        for server_round in (1, 2):
            messages = federation.configure_train(server_round, arrays, request, grid)
            new, _ = federation.aggregate_train(server_round, grid.send_and_receive(messages))
            assert new and not federation.report.failed
            arrays = new
            models.append(new["exits.1.projection.weight"].numpy())
        return federation, models

    _, fresh = trained("fresh")
    federation, server = trained("server")
    assert np.array_equal(fresh[0], server[0])  # nothing is known in the first round
    assert not np.allclose(fresh[1], server[1], atol=1e-4)
    kept = federation.moments[SECOND_MOMENTS]
    assert kept.keys() == dict(model.named_parameters()).keys()
    assert all(rows.min() >= 0 and rows.max() > 0 for rows in kept.values())
