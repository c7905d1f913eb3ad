"""Personal models: real clients score and fine-tune the result on real files, in this process."""

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

import client_app.personal
from client_app import app
from client_app.personal import with_trained_part
from client_app.recordings import recordings
from client_app.task import Task
from efmodel import EarlyExitForCTC
from efmodel.evaluation import score
from efmodel.model.lora import with_adapters
from efmodel.protocol import METRICS, PERSONAL, describe_model
from efmodel.settings import Settings
from server_app.personal import ClientResult, personalise
from server_app.strategy.node import Node
from server_app.survey import Survey
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config, write_folder

NODES = [Node(1, "weak", 1), Node(2, "strong", 3)]


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config())


@pytest.fixture
def contexts(tmp_path):
    """Return what makes the clients' contexts from a run config."""
    rows = [(f"{s}{i}.wav", "one two", s, 0.6 + 0.1 * i) for s in "ab" for i in range(10)]
    folders = {"weak": "a", "strong": "b"}
    for name, speaker in folders.items():
        write_folder(tmp_path / name, [row for row in rows if row[2] == speaker])

    def make(run_config):
        return {
            node.id: Context(
                1, node.id, {"capacity": node.capacity, "data-path": str(tmp_path / node.name)},
                RecordDict(), run_config,
            )
            for node in NODES
        }  # fmt: skip

    return make


def ask(whole, tokenizer, play, nodes=NODES) -> dict[str, ClientResult]:
    grid = LocalGrid(play, [node.id for node in nodes])
    request = describe_model(whole.config, tokenizer)
    return personalise(Survey(grid, nodes, Settings(), request, whole))


@pytest.mark.parametrize("kind", ["heads", "lora", "all"])
def test_each_client_scores_its_cut_and_what_it_makes_of_it(
    whole, tokenizer, contexts, kind, monkeypatch
):
    config = {"personal": kind, "personal-epochs": 2, "personal-lr": 0.01, "batch-utterances": 4}
    clients, scored = contexts(config), []

    def watched(model, utterances, *rest):
        state = {name: values.clone() for name, values in model.state_dict().items()}
        scored.append((state, utterances))
        return score(model, utterances, *rest)

    monkeypatch.setattr(client_app.personal, "score", watched)

    def play(message: Message) -> Message:
        reply = app(message, clients[message.metadata.dst_node_id])
        assert not reply.content.array_records and not reply.content.config_records  # only counts
        return reply

    found = ask(whole, tokenizer, play)
    assert found.keys() == {"weak", "strong"}
    for node, (received, _), (personal, held_out) in zip(
        NODES, scored[::2], scored[1::2], strict=True
    ):
        cut = whole.cut(node.capacity)
        assert all(torch.equal(values, received[name]) for name, values in cut.state_dict().items())
        if kind == "lora":
            unlike = personal.keys() - received.keys()
            assert all(".lora_" in name or ".base_layer." in name for name in unlike) and unlike
        else:
            changed = {name for name in received if not torch.equal(received[name], personal[name])}
            heads = {name for name in received if name.startswith("exits.")}
            assert changed == (heads if kind == "heads" else received.keys())
        message = Message(RecordDict({"config": ConfigRecord()}), node.id, "evaluate")
        speech = recordings(Task.of(message, clients[node.id]), whole.config, tokenizer)
        assert held_out == speech.held_out and len(speech.to_train) == 9
        errors = []
        tuned = with_adapters(cut, Settings().lora_rank) if kind == "lora" else cut
        for model, state in ((cut, received), (tuned, personal)):
            model.load_state_dict(state)
            errors.append(score(model, speech.held_out, tokenizer, 12.0)[-1])
        assert found[node.name] == ClientResult(
            node.capacity, 2, 7,
            [each.word_errors for each in errors], [each.character_errors for each in errors],
        )  # fmt: skip


def fine_tuned(model: EarlyExitForCTC, steps: int = 2) -> dict[str, torch.Tensor]:
    """Take a few steps on what requires a gradient; return the model's tensors."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 16_000), labels=torch.tensor([[3, 4], [5, 6]])).loss.backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("train", ["all", "lora"])
def test_with_lora_adapters_alone_are_fine_tuned(whole, train):
    """New ones, or those of a run that trained some; the rest keeps its values."""
    received = with_adapters(whole, 3) if train == "lora" else whole
    start = {name: values.clone() for name, values in received.cut(2).state_dict().items()}
    settings = Settings(personal="lora", train=train, lora_rank=3)
    personal = fine_tuned(with_trained_part(received.cut(2), settings, num_layers=4))
    adapters = {name for name in personal if ".lora_" in name}
    assert len(adapters) == 8  # of two layers, two matrices beside q_proj and v_proj
    assert all(personal[name].any() for name in adapters)
    for name in personal.keys() - adapters:
        before = start.get(name, start.get(name.replace(".base_layer.", ".")))
        assert torch.equal(personal[name], before), name


def test_a_client_whose_layers_are_all_frozen_has_no_adapters_to_train(
    whole, tokenizer, contexts, monkeypatch
):
    monkeypatch.setattr(client_app.personal, "train", None)  # it would fail
    clients = contexts({"personal": "lora", "freeze": "layers:4"})
    found = ask(whole, tokenizer, lambda m: app(m, clients[m.metadata.dst_node_id]))
    assert found.keys() == {"weak", "strong"}
    for result in found.values():
        assert result.word_errors[0] == result.word_errors[1]


def counts(words=5, errors=(3, 2), characters=20) -> MetricRecord:
    per_exit = {"word-errors": list(errors), "character-errors": list(errors)}
    return MetricRecord({"words": words, "characters": characters, **per_exit})


@pytest.mark.parametrize(
    "records",
    [
        {METRICS: counts()},
        {METRICS: counts(words=0), PERSONAL: counts()},
        {METRICS: counts(errors=(3, 2, 1)), PERSONAL: counts()},
        {METRICS: counts(), PERSONAL: counts(errors=(3, -2))},
        {METRICS: counts(words=0.5), PERSONAL: counts()},
        {},
    ],
    ids=["half", "no speech", "another depth", "negative", "fraction", "empty"],
)
def test_counts_that_cannot_be_true_are_left_out(whole, tokenizer, records, caplog):
    def play(message: Message) -> Message:
        spoilt = message.metadata.dst_node_id == 1
        good = {METRICS: counts(), PERSONAL: counts(errors=(3, 1))}
        return Message(RecordDict(dict(records if spoilt else good)), reply_to=message)

    nodes = [Node(1, "spoilt", 2), Node(2, "good", 2)]
    assert ask(whole, tokenizer, play, nodes) == {"good": ClientResult(2, 5, 20, [2, 1], [2, 1])}
    assert "personal models: spoilt left out: found" in caplog.text.replace("words: ", "").replace(
        "word-errors: ", ""
    )


def test_a_client_that_fails_does_not_hide_the_others(whole, tokenizer, caplog):
    def play(message: Message) -> Message:
        if message.metadata.dst_node_id == 1:
            raise RuntimeError("out of battery")
        records = {METRICS: counts(errors=(4, 3, 2)), PERSONAL: counts(errors=(4, 3, 1))}
        return Message(RecordDict(records), reply_to=message)

    assert list(ask(whole, tokenizer, play)) == ["strong"]
    assert "weak left out: RuntimeError('out of battery')" in caplog.text
