"""The ClientApp, called as Flower calls it, on real files."""

import logging

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from client_app import app
from client_app.recordings import recordings
from client_app.task import Task
from client_app.training import learning_rate, progress, proximal_term, train
from efmodel import EarlyExitConfig, EarlyExitForCTC
from efmodel.config import PRESETS
from efmodel.model.loss import exits_loss, self_distillation
from efmodel.protocol import PROTOCOL, PROTOCOL_KEY, Refusal, describe_model
from efmodel.settings import Settings, SettingsError
from efmodel.speech import corpus, memory, vocabulary
from efmodel.speech.recorded import ChangedError
from simulation import in_process_grid  # noqa: F401  (a Message wants the identity it sets)
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
    if "partition-id" not in node_config:  # a device; one that is not told measures itself
        node_config = {"capacity": 3, **node_config}
    return Context(
        run_id=1,
        node_id=7,
        node_config=node_config,
        state=RecordDict(),
        run_config=run_config or {},
    )


def ask(whole, tokenizer, kind: str, capacity: int = 2, **config) -> Message:
    request = ConfigRecord({**describe_model(whole.config, tokenizer), **config})
    content = RecordDict({"config": request})
    if kind == "train":
        request["server-round"], request["capacity"] = config.get("server-round", 1), capacity
        content["arrays"] = ArrayRecord(whole.cut(capacity).state_dict())
    return Message(content, dst_node_id=7, message_type=kind)


def test_a_query_is_answered_with_the_capacity(whole, tokenizer):
    def capacity(**node):
        return app(ask(whole, tokenizer, "query"), context(**node)).content["config"]["capacity"]

    assert capacity(capacity=2) == 2
    simulated = {"num-partitions": 6}
    found = [capacity(**simulated, **{"partition-id": i}) for i in range(6)]
    assert sorted(found) == [1, 1, 2, 2, 3, 3]
    for wrong in (0, 9, "2"):
        with pytest.raises(ValueError, match="node-config capacity: found"):
            capacity(capacity=wrong)


@pytest.mark.parametrize("kind", ["query", "train", "evaluate", "evaluate.personal"])
@pytest.mark.parametrize("server", [PROTOCOL + 1, None], ids=["newer", "0.1.0"])
def test_a_server_of_another_protocol_is_refused_by_code(whole, tokenizer, kind, server):
    message = ask(whole, tokenizer, kind)
    message.content["config"][PROTOCOL_KEY] = server or 0
    if server is None:  # version 0.1.0 sent no number
        del message.content["config"][PROTOCOL_KEY]
    error = app(message, context(capacity=2)).error
    assert error.code == Refusal.PROTOCOL
    assert error.reason == (
        f"protocol: found {server or 1} on the server, wanted {PROTOCOL} as on this node: install "
        "the same version of ef-asr on both, then restart the SuperNode"
    )


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


def test_a_client_with_too_few_utterances_to_hold_out_sends_the_same_metrics(
    whole, tokenizer, folder, tmp_path
):
    few = write_folder(tmp_path / "few", [(f"{i}.wav", "one two", "x", 0.7) for i in range(2)])
    run = {"local-epochs": 1}

    def metrics(speech):
        node = context(run, **{"data-path": str(speech)})
        return app(ask(whole, tokenizer, "train", capacity=2), node).content["metrics"]

    many, none = metrics(folder), metrics(few)
    assert list(none) == list(many) and none["num-examples"] == 2
    assert [len(none[key]) for key in none if isinstance(none[key], list)] == [2] * 4
    assert none["words"] == none["characters"] == 0 < many["words"]


def test_a_conformer_that_spells_in_pieces_of_words_learns(folder):
    """The paper's preset in small; what it was sent and what is returned are exits 1 and 2."""
    torch.manual_seed(0)
    pieces = vocabulary.of_preset("paper")
    sizes = PRESETS["paper"] | {"conv_depthwise_kernel_size": 7, "mask_mel_frames": 5}
    small = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    exits = {"num_hidden_layers": 4, "exit_layers": [1, 2, 4]}
    conformer = EarlyExitForCTC(EarlyExitConfig(**{**sizes, **small, **exits}))
    message = ask(conformer, pieces, "train", capacity=2)
    run = {"local-epochs": 4, "batch-seconds": 5.0, "lr": 3e-3}
    reply = app(message, context(run, **{"data-path": str(folder)}))
    sent, received = message.content["arrays"], reply.content["arrays"]
    assert list(received) == list(sent) == list(conformer.cut(2).state_dict())
    changed = [n for n in sent if not np.array_equal(sent[n].numpy(), received[n].numpy())]
    assert len(changed) == len(sent)
    metrics = reply.content["metrics"]
    assert metrics["num-examples"] == 44 and metrics["words"] == 8
    before, after = np.array(metrics["loss"]), np.array(metrics["train-loss"])
    assert (after < before - 1).all()


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
    assert learning_rate(settings, 10.9) == pytest.approx(0.001 / 3)
    constant = Settings(lr=0.01, rounds=10, lr_schedule="constant")
    assert learning_rate(constant, 10) == 0.01


@pytest.mark.parametrize("schedule", ["cooldown", "constant"])
@hypothesis_settings(deadline=None)
@given(
    share=st.just(0.0) | st.floats(0.01, 0.99),
    rounds=st.integers(1, 200),
    place=st.floats(0, 0.9999),
)
def test_it_rises_first_for_the_share_that_is_asked_for(schedule, share, rounds, place):
    settings = Settings(lr=0.01, rounds=rounds, lr_warmup=share, lr_schedule=schedule)
    wanted = 1.0
    if place < share:
        wanted = place / share
    if schedule == "cooldown" and 1 - place < 0.3:
        wanted = min(wanted, (1 - place) / 0.3)
    found = learning_rate(settings, 1 + place * rounds)
    assert found == pytest.approx(0.01 * wanted, abs=1e-9)


def test_both_keys_of_fine_tuning_reach_a_clients_optimizer(whole, tokenizer, folder, monkeypatch):
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append({group["lr"] for group in self.param_groups})
            return super().step(closure)

    monkeypatch.setattr("client_app.optimizer.AdamW", Watched)
    run = {"rounds": 4, "local-epochs": 1, "batch-utterances": 11, "lr": 0.01, "lr-warmup": 0.5,
           "lr-layer-decay": 0.5}  # fmt: skip
    message = ask(whole, tokenizer, "train", capacity=2, **{"server-round": 2})
    app(message, context(run, **{"data-path": str(folder)}))
    # Layers 1 and 2 of 4, what comes before them, and the heads; in round 2 half of the rate.
    assert rates[0] == {0.005 * factor for factor in (1, 1 / 4, 1 / 8, 1 / 16)}
    half = len(rates) // 2
    expected = 0.005 + 0.005 * half / len(rates)
    assert max(rates[half]) == pytest.approx(expected)


def test_it_falls_within_a_round_too(whole, tokenizer, folder, monkeypatch):
    """Central training may be a single round: it must cool down as a federation does."""
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr("client_app.optimizer.AdamW", Watched)
    run = {"rounds": 1, "local-epochs": 5, "batch-utterances": 5, "lr": 0.01}
    app(ask(whole, tokenizer, "train"), context(run, **{"data-path": str(folder)}))
    assert len(rates) > 40 and rates[:28] == [0.01] * 28
    assert rates[-1] == pytest.approx(0.01 / 0.3 / len(rates))
    assert rates[28:] == sorted(rates[28:], reverse=True)


def test_progress_runs_from_0_to_1():
    assert [progress(Settings(rounds=5), r) for r in range(1, 6)] == [0, 0.25, 0.5, 0.75, 1]
    assert progress(Settings(rounds=1), 1) == 0


def test_the_loss_follows_the_curriculum_and_adds_the_distillation():
    torch.manual_seed(0)
    model = EarlyExitForCTC(small_config(exit_loss="deepening")).eval()
    output = model(torch.randn(2, 16_000), labels=torch.tensor([[3, 4], [5, 6]]))
    first, second, third = output.losses.tolist()
    exits = (output.losses, output.logits, output.lengths, model.config.exit_loss)
    plain = exits_loss(*exits, progress=0.0)
    assert plain.item() == pytest.approx((6 * first + 3 * second + 2 * third) / 11)
    distance = self_distillation(output.logits, output.lengths)
    both = exits_loss(*exits, progress=1.0, distill=0.5)
    assert distance > 0
    assert both.item() == pytest.approx((output.loss + 0.5 * distance).item())


@pytest.mark.parametrize(
    "keys",
    [
        {"distill": 1.0},
        {"precision": "bfloat16"},
        {"masks": "channels:0.5"},
        {"masks": "time:0.5"},
        {"masks": "bands:0"},
        {"masks": "frames:40"},
        {"speed-perturbation": 0.0},
    ],
    ids=str,
)
def test_each_key_of_training_changes_what_is_learned(tokenizer, folder, keys):
    torch.manual_seed(0)
    whole = EarlyExitForCTC(small_config(mask_mel_bins=20, mask_mel_frames=5))

    def trained(run):
        run = {"local-epochs": 1, "lr-schedule": "constant", "lr": 1e-4, **run}
        node = context(run, **{"data-path": str(folder)})
        reply = app(ask(whole, tokenizer, "train"), node)
        return reply.content["arrays"]["feature_projection.projection.weight"].numpy()

    plain, changed = trained({}), trained(keys)
    assert np.isfinite(changed).all() and not np.array_equal(plain, changed)


def test_checkpointed_layers_learn_the_same(whole, tokenizer, folder):
    def trained(checkpointed):
        run = {"local-epochs": 1, "gradient-checkpointing": checkpointed}
        node = context(run, **{"data-path": str(folder)})
        reply = app(ask(whole, tokenizer, "train"), node)
        return reply.content["arrays"]["exits.1.projection.weight"].numpy()

    np.testing.assert_allclose(trained(True), trained(False), atol=1e-5)


def test_a_cut_client_runs_no_deeper_layer_forward_or_backward(whole):
    forward, backward = [], []
    for number, layer in enumerate(whole.encoder.layers, start=1):
        layer.register_forward_hook(lambda *_, n=number: forward.append(n))
        layer.register_full_backward_hook(lambda *_, n=number: backward.append(n))
    assert whole.config.exit_layers == [1, 2, 4]
    samples, labels = torch.randn(2, 16_000), torch.tensor([[3, 4], [5, 6]])
    whole(samples, labels=labels).loss.backward()
    assert sorted(forward) == sorted(backward) == [1, 2, 3, 4]

    cut, calls = whole.cut(2), []
    for module in cut.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    cut(samples, labels=labels).loss.backward()
    assert [calls.count(layer) for layer in cut.encoder.layers] == [1, 1]
    assert [calls.count(head) for head in cut.exits.values()] == [1, 1]
    assert len(forward) == len(backward) == 4  # nothing of the whole model ran again


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
    refused = app(message, context({"local-epochs": 1}, **node, capacity=1))
    assert refused.error.code == Refusal.CAPACITY
    assert refused.error.reason == (
        "capacity: found a model of 3 exits in the message, wanted at most 1, which this node can "
        "train; strategies that send whole models want capacities=full"
    )


def test_what_fedprox_adds_is_half_mu_times_the_squared_distance():
    layer = torch.nn.Linear(2, 1)
    received = [torch.zeros_like(p) for p in layer.parameters()]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.bias.fill_(2.0)
    term = proximal_term(list(layer.parameters()), received, mu=0.1)
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
    with pytest.raises(
        ValueError, match="no utterance to train on: too short for its text x1;"
    ) as e:
        app(ask(whole, tokenizer, "train"), context(**{"data-path": str(folder)}))
    assert "three" not in str(e.value) and "a.wav" not in str(e.value)  # it goes to the server


def test_the_message_describes_model_and_tokenizer(whole, tokenizer):
    from efmodel.protocol import read_model

    for each in (tokenizer, vocabulary.of_preset("paper")):
        config, spelled = read_model(describe_model(whole.config, each))
        assert config.to_dict() == whole.config.to_dict()
        assert vocabulary.to_json(spelled) == vocabulary.to_json(each)
    assert Settings().local_epochs >= 1


def test_training_is_the_same_whatever_is_in_memory(whole, folder, tokenizer):
    task = Task(7, {"data-path": str(folder)}, Settings(), ConfigRecord())
    utterances = recordings(task, whole.config, tokenizer).to_train
    settings = Settings(local_epochs=2, batch_seconds=3.0)

    def trained(speech, limit):
        memory.of_process().limit = limit
        model = whole.cut(2)
        losses = train(model, speech, settings, 1, seed=5)
        return [losses, *(tensor.tolist() for tensor in model.state_dict().values())]

    at_hand = trained([utterance.decoded() for utterance in utterances], 0)
    # 44 utterances of 70 kB: all, some, and none of them stay in memory.
    assert trained(utterances, 10_000_000) == at_hand
    assert trained(utterances, 400_000) == at_hand
    assert trained(utterances, 0) == at_hand


def test_a_recording_that_disappears_costs_one_round_and_is_named_then(
    whole, tokenizer, folder, caplog
):
    run = {"local-epochs": 1, "batch-seconds": 5.0}
    node = context(run, **{"data-path": str(folder)})
    first = app(ask(whole, tokenizer, "train"), node)
    memory.of_process().limit = 0  # as if there were no room for it
    (folder / "a3.wav").unlink()
    (folder / "b0.wav").write_bytes(b"no audio")
    with pytest.raises(ChangedError, match="changed during the round"):
        app(ask(whole, tokenizer, "train"), node)
    logging.getLogger("flwr").addHandler(caplog.handler)
    third = app(ask(whole, tokenizer, "train"), node)
    logging.getLogger("flwr").removeHandler(caplog.handler)
    skipped = [reply.content["metrics"]["skipped"] for reply in (first, third)]
    assert skipped == [0, 2]
    assert "skipped a3.wav: found no file" in caplog.text
    assert "skipped b0.wav: found no readable audio" in caplog.text
