"""Federated calibration: real clients count on real files, in this process."""

import logging

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from client_app import app
from client_app.recordings import recordings
from client_app.task import Task
from efmodel import EarlyExitForCTC
from efmodel.decoding.calibration import Observations, thresholds
from efmodel.decoding.observing import observe
from efmodel.decoding.policy import SCORES
from efmodel.model.compute import multiply_adds
from efmodel.model.stages import Engine
from efmodel.protocol import HISTOGRAM, describe_model
from efmodel.settings import Settings
from server_app.calibration import calibrate
from server_app.strategy.node import Node
from server_app.survey import Survey
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config, write_folder

NODES = 6  # of equal capacities: two hold the whole model


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config()).eval()


@pytest.fixture
def federation(whole, tokenizer, tmp_path):
    """Six simulated clients: their contexts, and the model description that requests carry."""
    rows = [(f"{s}{i}.wav", "one two", s, 0.5 + 0.1 * i) for s in "abcdef" for i in range(12)]
    folder = write_folder(tmp_path / "speech", rows)
    config = {"data": "audiofolder", "data-path": str(folder), "max-utterances": 12}
    contexts = {
        place + 1: Context(1, place + 1, {"partition-id": place, "num-partitions": NODES},
                           RecordDict(), config)
        for place in range(NODES)
    }  # fmt: skip
    return contexts, describe_model(whole.config, tokenizer)


def capacities(contexts, request) -> list[Node]:
    nodes = []
    for number, context in contexts.items():
        query = Message(RecordDict({"config": request}), number, "query")
        answer = app(query, context).content["config"]
        nodes.append(Node(number, str(answer["name"]), int(answer["capacity"])))
    return nodes


def test_thresholds_are_those_of_the_pooled_held_out_speech(whole, tokenizer, federation, caplog):
    contexts, request = federation
    nodes = capacities(contexts, request)
    holders = [node.id for node in nodes if node.capacity == 3]
    assert len(holders) == 2
    asked = []

    def play(message: Message) -> Message:
        asked.append(message.metadata.dst_node_id)
        assert set(message.content["arrays"]) == set(whole.state_dict())
        reply = app(message, contexts[message.metadata.dst_node_id])
        assert set(reply.content) == {"metrics"}  # counts, and nothing else, leave a client
        return reply

    grid = LocalGrid(play, contexts)
    with caplog.at_level(logging.INFO):
        found = calibrate(Survey(grid, nodes, Settings(), request, whole))
    assert sorted(asked) == sorted(holders)
    assert "thresholds from 2 held-out utterances of 2 clients" in caplog.text

    pooled = []
    for node in holders:
        message = Message(RecordDict({"config": ConfigRecord(dict(request))}), node, "evaluate")
        task = Task.of(message, contexts[node])
        pooled += recordings(task, whole.config, tokenizer).held_out
    seen = observe(Engine(whole), tokenizer, pooled, list(SCORES), 12.0)
    assert len(seen.words) == 2
    costs = multiply_adds(whole.config)
    assert found == {n: thresholds(seen.histogram(n), costs, 0.02) for n in SCORES}


def histogram_reply(message: Message, **changes) -> Message:
    """What a client sends that counted five utterances, all of them right."""
    certain = np.full((3, 5), -1e-5)
    seen = Observations(
        dict.fromkeys(SCORES, certain), np.zeros((3, 5), int), np.ones(5, int), np.ones(5)
    )
    counts = {HISTOGRAM + n: seen.histogram(n).flatten().tolist() for n in SCORES}
    return Message(RecordDict({"metrics": MetricRecord({**counts, **changes})}), reply_to=message)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({HISTOGRAM + "entropy": [1]}, "found no 312 counts of entropy"),
     ({HISTOGRAM + "entropy": [-1] * 312}, "found no numbers of utterances and words in entropy"),
     ({HISTOGRAM + "entropy": 5}, "found no 312 counts of entropy"),
     ({HISTOGRAM + "entropy": [0.5] * 312}, "found no numbers of utterances and words in entropy"),
     ({HISTOGRAM + "entropy": [10**6] * 312}, "found no counts that add up"),
     ({HISTOGRAM + n: [0, 1, 1] * 104 for n in SCORES}, "found no counts that add up")],
    ids=["short", "negative", "no list", "fractions", "other utterances", "errors of nobody"],
)  # fmt: skip
def test_counts_that_cannot_be_true_are_left_out(whole, tokenizer, wrong, complaint, caplog):
    def play(message: Message) -> Message:
        return histogram_reply(message, **(wrong if message.metadata.dst_node_id == 1 else {}))

    nodes = [Node(1, "a", 3), Node(2, "b", 3)]
    request = describe_model(whole.config, tokenizer)
    grid = LocalGrid(play, [1, 2])
    with caplog.at_level(logging.INFO):
        found = calibrate(Survey(grid, nodes, Settings(), request, whole))
    assert f"calibration: a left out: {complaint}\n" in caplog.text
    assert "5 held-out utterances of 1 clients" in caplog.text
    assert found["confidence"][0] < -1e-5  # all five stop at the first exit


def test_without_counts_a_model_has_no_thresholds(whole, tokenizer, caplog):
    def play(message: Message) -> Message:
        raise RuntimeError("no speech here")

    request = describe_model(whole.config, tokenizer)

    def of(settings: Settings, capacity: int = 3):
        nodes = [Node(1, "a", capacity)]
        return calibrate(Survey(LocalGrid(play, [1]), nodes, settings, request, whole))

    with caplog.at_level(logging.INFO):
        assert of(Settings()) is None and "no speech here" in caplog.text
        assert of(Settings(), capacity=2) is None
        caplog.clear()
        assert of(Settings(calibrate="off")) is None and not caplog.text
        assert of(Settings(local_epsilon=1.0, local_clip_norm=1.0)) is None
        assert "without noise" in caplog.text
