"""What clients are asked about the trained model."""

import logging

import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict

from efmodel import EarlyExitForCTC
from efmodel.protocol import describe_model
from efmodel.settings import Settings
from server_app.strategy.node import Node
from server_app.strategy.reply import BadReplyError
from server_app.survey import Survey
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config

NODES = [Node(1, "weak", 1), Node(2, "away", 2), Node(3, "liar", 3), Node(4, "dead", 3),
         Node(5, "strong", 3)]  # fmt: skip


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config())


def test_each_connected_node_is_sent_its_cut_and_bad_answers_are_named(whole, tokenizer, caplog):
    sent = {}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        sent[node] = message.content
        if node == 4:
            raise RuntimeError("no speech here")
        return Message(RecordDict({"metrics": MetricRecord({"n": node})}), reply_to=message)

    def read(reply: Message, capacity: int) -> tuple[int, int]:
        number = int(reply.content["metrics"]["n"])
        if number == 3:
            raise BadReplyError("found 3, wanted 5")
        return number, capacity

    request = describe_model(whole.config, tokenizer)
    grid = LocalGrid(play, [1, 3, 4, 5])
    survey = Survey(grid, NODES, Settings(rounds=7), request, whole)
    with caplog.at_level(logging.INFO):
        assert survey.ask("query of all", "evaluate", read) == {"weak": (1, 1), "strong": (5, 3)}
    assert "query of all: liar left out: found 3, wanted 5" in caplog.text
    assert "query of all: dead left out: " in caplog.text and "no speech here" in caplog.text
    assert "query of all: 2 of 4 clients answered" in caplog.text
    for node in (node for node in NODES if node.name != "away"):
        cut = whole.cut(node.capacity).state_dict()
        arrays = sent[node.id]["arrays"]
        assert arrays.keys() == cut.keys()
        assert all((arrays[name].numpy() == cut[name].numpy()).all() for name in cut)
        assert sent[node.id]["config"]["capacity"] == node.capacity
        assert sent[node.id]["config"]["server-round"] == 8

    sent.clear()
    assert survey.ask("some", "evaluate", read, only=lambda node: node.capacity == 1)
    assert sent.keys() == {1}
