"""Flower's strategies in a run: counted, checked for full depth, and without state."""

import pytest
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from efmodel.settings import Settings, SettingsError
from server_app.strategy import PartialFedAvg
from server_app.strategy.base import RunStrategy
from server_app.strategy.node import Node
from server_app.strategy.registry import build
from server_app.strategy.whole_model import WholeModel
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

FLOWER = Settings(strategy="flwr.serverapp.strategy:FedAvg", min_train_nodes=3, min_nodes=3)


def test_it_counts_replies_and_gives_what_flower_gives():
    def play(message):
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 2:
            raise RuntimeError("flat battery")
        return drifting(dict.fromkeys((1, 2, 3), 3))(message)

    models = {}
    for made in (build(FLOWER, OWNERS), FedAvg(min_train_nodes=3, min_available_nodes=3)):
        grid = LocalGrid(play, [1, 2, 3])
        messages = made.configure_train(1, tensors("start"), ConfigRecord(), grid)
        models[type(made)], _ = made.aggregate_train(1, iter(grid.send_and_receive(messages)))
        if isinstance(made, WholeModel):
            report = made.report
    assert all(models[WholeModel][name] == models[FedAvg][name] for name in OWNERS)
    assert report.sampled == {"1": 3, "2": 3, "3": 3} and report.trainers(3) == [2, 2, 2]
    assert set(report.accepted) == {"1", "3"} and "flat battery" in report.failed["2"]
    whole = sum(len(array.data) for array in tensors("start").values())
    assert {c.bytes_down for c in report.accepted.values()} == {whole}
    assert {c.bytes_up for c in report.accepted.values()} == {whole}


def test_speech_is_combined_as_by_a_partial_strategy():
    """A client without held-out speech sends the same metrics as others, and counts of zero."""
    heard = {1: ([2.0], [1], 4), 2: ([0.0], [0], 0), 3: ([5.0], [5], 6)}

    def play(message):
        reply = drifting(dict.fromkeys(heard, 3))(message)
        if message.metadata.message_type == "train":
            loss, errors, words = heard[message.metadata.dst_node_id]
            reply.content["metrics"].update(
                {"loss": loss, "word-errors": errors, "words": words, "seconds": 2.5}
            )
        return reply

    made, grid = build(FLOWER, OWNERS), LocalGrid(play, heard)
    messages = made.configure_train(1, tensors("start"), ConfigRecord(), grid)
    _, metrics = made.aggregate_train(1, iter(grid.send_and_receive(messages)))
    assert dict(metrics) == {"num-examples": 30, "loss": [3.5], "wer": [0.6], "seconds": 7.5}


def test_it_wants_full_depth_and_names_who_has_less():
    capacities = {1: 3, 2: 1, 3: 3}
    made = build(FLOWER, OWNERS)
    with pytest.raises(SettingsError, match=r"found 1 nodes .*2 \(capacity 1\).*wanted capacity 3"):
        made.check_nodes(LocalGrid(drifting(capacities), capacities), ConfigRecord())
    capacities[2] = 3
    made.nodes.forget(2)
    made.check_nodes(LocalGrid(drifting(capacities), capacities), ConfigRecord())


def test_a_resumed_one_starts_its_state_afresh(caplog):
    made, node = build(FLOWER, OWNERS), Node(7, "pi", 3)
    made.restore({"m": {"one": tensors(0)["one"].numpy()}}, [node])
    assert made.moments == {} and made.nodes.met == {7: node}
    assert "the state of flwr.serverapp.strategy:FedAvg is not in checkpoints" in caplog.text


def test_the_base_s_defaults_hold_for_partial_strategies(model):
    made: RunStrategy = PartialFedAvg(OWNERS)
    node, moment = Node(7, "pi", 3), tensors(0)["one"].numpy()
    made.restore({"m": {"one": moment}}, [node])
    assert made.nodes.met == {7: node} and made.moment("m", "one", moment) is moment
    assert not made.moment("m", "two", moment).any()
    assert made.models_to_score(model) == [model] and made.client_models(model.config) == []
    grid = LocalGrid(drifting({1: 1}), [1])
    made.check_nodes(grid, ConfigRecord())  # any capacity will do
    assert grid.sent == []
