"""The ClientApp, called as Flower calls it, on real files."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app import app
from client_app.training import learning_rate, proximal_term
from efmodel import EarlyExitForCTC, corpus, text
from efmodel.payload import describe
from efmodel.settings import Settings, SettingsError
from simulation import local_grid  # noqa: F401  (a Message wants the identity it sets)
from tests.conftest import small_config, write_folder


@pytest.fixture
def whole(tokenizer):
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config())


@pytest.fixture
def folder(tmp_path):
    rows = [(f"{s}{i}.wav", "one two", s, 0.6 + 0.1 * i) for s in "abcd" for i in range(12)]
    return write_folder(tmp_path / "speech", rows)


def context(run_config=None, **node_config) -> Context:
    return Context(
        run_id=1,
        node_id=7,
        node_config=node_config,
        state=RecordDict(),
        run_config=run_config or {},
    )


def ask(whole, tokenizer, kind: str, capacity: int = 2, **config) -> Message:
    request = ConfigRecord({**describe(whole.config, tokenizer), **config})
    content = RecordDict({"config": request})
    if kind == "train":
        request["server-round"], request["capacity"] = config.get("server-round", 1), capacity
        content["arrays"] = ArrayRecord(whole.cut(capacity).state_dict())
    return Message(content, dst_node_id=7, message_type=kind)


def test_a_query_is_answered_with_the_capacity(whole, tokenizer):
    def capacity(**node):
        return app(ask(whole, tokenizer, "query"), context(**node)).content["config"]["capacity"]

    assert capacity(capacity=2) == 2
    assert capacity() == 3
    simulated = {"num-partitions": 6}
    found = [capacity(**simulated, **{"partition-id": i}) for i in range(6)]
    assert sorted(found) == [1, 1, 2, 2, 3, 3]
    for wrong in (0, 9, "2"):
        with pytest.raises(ValueError, match="node-config capacity: found"):
            capacity(capacity=wrong)


def test_training_replies_with_what_was_sent_and_with_metrics(whole, tokenizer, folder):
    message = ask(whole, tokenizer, "train", capacity=2)
    run = {"local-epochs": 1, "batch-seconds": 5.0}
    reply = app(message, context(run, **{"data-path": str(folder)}))
    sent, received = message.content["arrays"], reply.content["arrays"]
    assert list(received) == list(sent)
    changed = [n for n in sent if not np.array_equal(sent[n].numpy(), received[n].numpy())]
    assert len(changed) == len(sent)  # all exits are trained, so every tensor moves
    metrics = reply.content["metrics"]
    assert metrics["num-examples"] == 44 and metrics["words"] == 8  # a tenth is held out
    assert len(metrics["train-loss"]) == len(metrics["word-errors"]) == 2
    assert metrics["seconds"] > 20 and metrics["peak-memory"] > 1e8


def test_training_learns_more_in_more_epochs(whole, tokenizer, folder):
    def loss(epochs):
        run = {"local-epochs": epochs, "batch-seconds": 5.0}
        node = context(run, **{"data-path": str(folder)})
        return app(ask(whole, tokenizer, "train"), node).content["metrics"]["train-loss"][-1]

    assert loss(4) < loss(1) - 0.1


def test_the_learning_rate_stays_then_falls_or_always_stays():
    settings = Settings(lr=0.01, rounds=10)
    rates = [learning_rate(settings, r) for r in range(1, 11)]
    assert rates[:8] == [0.01] * 8
    assert rates[8:] == pytest.approx([0.02 / 3, 0.01 / 3])
    constant = Settings(lr=0.01, rounds=10, lr_schedule="constant")
    assert learning_rate(constant, 10) == 0.01


def test_the_same_seed_trains_the_same_model(whole, tokenizer, folder):
    def trained(seed):
        node = context({"local-epochs": 1, "seed": seed}, **{"data-path": str(folder)})
        reply = app(ask(whole, tokenizer, "train"), node)
        return reply.content["arrays"]["exits.1.projection.bias"].numpy()

    assert np.array_equal(trained(0), trained(0))
    assert not np.array_equal(trained(0), trained(1))


def test_a_partition_trains_on_its_own_speakers_only(whole, tokenizer, folder):
    run = {"data": "audiofolder", "data-path": str(folder), "local-epochs": 1, "capacities": "full"}
    node = context(run, **{"partition-id": 1, "num-partitions": 4})
    metrics = app(ask(whole, tokenizer, "train"), node).content["metrics"]
    assert metrics["num-examples"] == 11 and metrics["words"] == 2


def test_iid_partitions_and_a_limit_of_utterances(whole, tokenizer, folder):
    run = {"data": "audiofolder", "data-path": str(folder), "local-epochs": 1, "capacities": "full"}
    rows = len(corpus.load("audiofolder", str(folder)).train)
    nodes = [{"partition-id": i, "num-partitions": rows} for i in (0, rows - 1)]
    for node in nodes:  # as many clients as utterances, more than speakers
        asked = context({**run, "partition": "iid"}, **node)
        assert app(ask(whole, tokenizer, "train"), asked).content["metrics"]["num-examples"] == 1
    asked = context({**run, "max-utterances": 5}, **{"partition-id": 1, "num-partitions": 4})
    assert app(ask(whole, tokenizer, "train"), asked).content["metrics"]["num-examples"] == 5


def test_a_node_says_its_tag(whole, tokenizer):
    answer = app(ask(whole, tokenizer, "query"), context(capacity=1, tag="kitchen"))
    assert answer.content["config"]["tag"] == "kitchen"


def test_a_whole_model_is_only_for_those_who_can_train_it(whole, tokenizer, folder):
    """Strategies that are not partial send everything and say nothing of capacity."""
    message = ask(whole, tokenizer, "train", capacity=3)
    del message.content["config"]["capacity"]
    node = {"data-path": str(folder)}
    reply = app(message, context({"local-epochs": 1}, **node, capacity=3))
    assert len(reply.content["arrays"]) == len(whole.state_dict())
    with pytest.raises(ValueError, match="found a message that wants 3, this node can train 1"):
        app(message, context({"local-epochs": 1}, **node, capacity=1))


def test_what_fedprox_adds_is_half_mu_times_the_squared_distance():
    layer = torch.nn.Linear(2, 1)
    received = [torch.zeros_like(p) for p in layer.parameters()]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.bias.fill_(2.0)
    term = proximal_term(layer, received, mu=0.1)
    assert term.item() == pytest.approx(0.05 * (9 + 16 + 4))
    term.backward()
    assert layer.weight.grad.tolist() == [[pytest.approx(0.3), pytest.approx(0.4)]]


def test_missing_data_and_wrong_keys_are_named(whole, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="data-path: found no folder"):
        app(ask(whole, tokenizer, "train"), context(**{"data-path": str(tmp_path / "none")}))
    with pytest.raises(SettingsError, match="local-epochs: found 0"):
        app(ask(whole, tokenizer, "train"), context({"local-epochs": 0}))


def test_nothing_usable_is_an_error_that_says_why(whole, tokenizer, tmp_path):
    folder = write_folder(tmp_path / "d", [("a.wav", "one two three four", "x", 0.1)])
    with pytest.raises(ValueError, match="found no utterance to train on .*a.wav: found 0.10 s"):
        app(ask(whole, tokenizer, "train"), context(**{"data-path": str(folder)}))


def test_the_message_describes_model_and_tokenizer(whole, tokenizer):
    from efmodel.payload import blueprint

    config, spelled = blueprint(describe(whole.config, tokenizer))
    assert config.to_dict() == whole.config.to_dict()
    assert spelled.get_vocab() == text.CHARACTERS
    assert Settings().local_epochs >= 1
