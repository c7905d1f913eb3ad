"""The vocabulary of a run: asked from real clients, kept when it is resumed, warned about."""

import json
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from client_app import app
from efmodel.model import loading
from efmodel.protocol import ALPHABET, CAPACITY, CONFIG
from efmodel.settings import Settings, SettingsError
from efmodel.speech import text, vocabulary
from efmodel.speech.alphabet import TextCount
from server_app.federation import federate
from server_app.results.report import write_report
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy.cohort import Nodes
from server_app.vocabulary import settle, stored_tokenizer
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults
from tests.conftest import write_folder

ARABIC = ["خلف", "أمام", "خلف أمام", "لفم"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Three devices' recordings in Arabic; the last one has a letter that the others lack."""
    root = tmp_path_factory.mktemp("devices")
    texts = [ARABIC, ARABIC, [*ARABIC, "شمال شش"]]
    return [
        write_folder(root / str(n), [(f"{i}.wav", t, "x", 1.0) for i, t in enumerate(each)])
        for n, each in enumerate(texts)
    ]


def grid_of(folders: list[Path], config: dict) -> LocalGrid:
    """Return the grid of one device for each folder, as in a deployment."""

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"data-path": str(folders[node - 1]), "capacity": 1}
        return app(message, Context(1, node, place, RecordDict(), config))

    return LocalGrid(play, range(1, len(folders) + 1))


def run_config(output: Path, **changes) -> dict:
    keys = {"rounds": 1, "local-epochs": 1, "min-train-nodes": 3, "min-nodes": 3,
            "data": "audiofolder", "round-timeout": 60.0, "output": str(output)}  # fmt: skip
    return {**defaults(), **keys, **changes}


def run(folders: list[Path], config: dict) -> RunFolder:
    return federate(grid_of(folders, config), Context(1, 0, {}, RecordDict(), config))


def test_a_run_spells_in_the_letters_of_its_clients_and_a_resumed_one_too(
    folders, tmp_path, caplog
):
    folder = run(folders, run_config(tmp_path / "run"))
    model, tokenizer = loading.load(folder.path)
    letters = "".join(sorted(vocabulary.single_letters(tokenizer)))
    assert letters == "".join(sorted({*"".join(ARABIC)} - {" "}))
    assert model.config.vocab_size == len(tokenizer) == len(letters) + 3
    assert all(head.projection.out_features == len(tokenizer) for head in model.exits.values())
    first = read_metrics(folder.metrics)[0]
    assert first["answered"] == 3 and not first["failures"]

    about = json.loads(folder.vocabulary.read_text())
    assert about["characters"] == letters and about["nodes"] == 3
    assert about["left-out"] == {"ش": 3}  # on one node only
    assert "left out 1 characters: ش x3" in caplog.text
    # The node that has it is asked again, and says what it loses.
    lines = [r.getMessage() for r in caplog.records if "vocabulary: loses" in r.getMessage()]
    assert any(line.endswith("(1 nodes)") for line in lines), lines
    told = [json.loads(line)["message"] for line in folder.log.read_text().splitlines()]
    before = next(i for i, line in enumerate(told) if line.startswith("round 1/1"))
    assert any("vocabulary: loses" in line for line in told[:before])

    page = write_report(folder.path).read_text()
    assert f"<bdi>{' '.join(letters)}</bdi>" in page and "Left out: <bdi>ش</bdi>" in page

    again = run_config(tmp_path / "run", resume=str(folder.path), rounds=2)
    others = [folders[2]] * 3  # now three nodes use the letter that was left out
    assert run(others, again) == folder and len(read_metrics(folder.metrics)) == 2
    assert vocabulary.to_json(loading.load(folder.path)[1]) == vocabulary.to_json(tokenizer)
    with pytest.raises(SettingsError, match="vocabulary: found 'ar', wanted 'auto': a resumed run"):
        run(folders, {**again, "vocabulary": "ar", "rounds": 3})


def settled(folders, tmp_path, play=None, nodes=None, **changes):
    """Return the tokenizer of a run, and what nodes were sent, without training."""
    config = run_config(tmp_path / "run", **{"min-nodes": len(folders), **changes})
    settings = Settings.from_run_config(config)
    grid = LocalGrid(play, range(1, len(folders) + 1)) if play else grid_of(folders, config)
    nodes = nodes or Nodes(3, 5.0, lambda node: True)
    start = loading.starting_model(settings)
    folder = RunFolder.create(config["output"])
    model, tokenizer = settle(grid, nodes, settings, folder, {}, start)
    assert model.config.vocab_size == len(tokenizer)
    assert vocabulary.to_json(stored_tokenizer(folder)) == vocabulary.to_json(tokenizer)
    return tokenizer, grid


def test_english_clients_keep_the_default_model(tmp_path):
    folders = [
        write_folder(tmp_path / name, [("a.wav", "One, it's!", name, 1.0)]) for name in "abc"
    ]
    tokenizer, _ = settled(folders, tmp_path)
    assert vocabulary.to_json(tokenizer) == vocabulary.to_json(vocabulary.of_preset("tiny"))


def test_auto_gives_the_model_that_its_characters_give(folders, tmp_path):
    import torch

    def start(vocabulary_key, where):
        torch.manual_seed(0)
        config = run_config(tmp_path / where, vocabulary=vocabulary_key)
        settings = Settings.from_run_config(config)
        grid, folder = grid_of(folders, config), RunFolder.create(config["output"])
        begin = loading.starting_model(settings)
        return settle(grid, Nodes(3, 5.0, lambda n: True), settings, folder, {}, begin)[0]

    auto, named = start("auto", "one"), start("characters:" + "".join(ARABIC), "two")
    pairs = zip(auto.state_dict().values(), named.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_fixed_alphabet_asks_for_no_characters(folders, tmp_path):
    tokenizer, grid = settled(folders, tmp_path, vocabulary="ar", language="ar")
    assert not grid.sent and len(vocabulary.single_letters(tokenizer)) == 36
    assert text.normalise("خَلْف 5", tokenizer)[0] == "خلف خمسة"
    config = run_config(tmp_path / "run")
    answer = _query(folders, config, tokenizer)
    assert answer["text-counts"] == [4, 0, 17, 0] and ALPHABET not in answer
    english = _query(folders, config, vocabulary.of_preset("tiny"))
    assert english["text-counts"] == [4, 4, 17, 17] and ALPHABET not in english


def _query(folders, config, tokenizer):
    from efmodel.protocol import describe_model
    from tests.conftest import small_config

    request = RecordDict({CONFIG: describe_model(small_config(), tokenizer)})
    message = Message(request, dst_node_id=1, message_type="query")
    grid = grid_of(folders, config)
    (reply,) = grid.send_and_receive([message])
    return reply.content[CONFIG]


def test_nodes_that_fail_or_say_nothing_break_nothing(folders, tmp_path, caplog):
    def play(message):
        node = message.metadata.dst_node_id
        if node == 1:
            raise RuntimeError("no battery")
        config = run_config(tmp_path)
        place = {"data-path": str(folders[2]), "capacity": 1}
        if node == 2:  # its data is at fault, which it says when it is asked to train
            place["data-path"] = str(tmp_path / "nowhere")
        return app(message, Context(1, node, place, RecordDict(), config))

    tokenizer, _ = settled(folders, tmp_path, play)
    assert "ش" in tokenizer.get_vocab()  # of the only node that answered
    assert "the texts cannot be read: data-path: found no folder" in caplog.text

    def silent(message):  # a client app of the user's own
        answer = ConfigRecord({CAPACITY: 1, "text-counts": "many", ALPHABET: "ab"})
        return Message(RecordDict({CONFIG: answer}), reply_to=message)

    tokenizer, _ = settled(folders, tmp_path / "silent", silent)
    assert vocabulary.to_json(tokenizer) == vocabulary.to_json(vocabulary.of_preset("tiny"))
    assert "no node answered which characters its texts use" in caplog.text


def test_a_node_that_joins_later_is_named_if_it_loses_letters(folders, tmp_path, caplog):
    config = run_config(tmp_path / "run")
    grid, nodes = grid_of(folders, config), Nodes(3, 5.0, lambda node: True)
    grid.node_ids = [1, 2]
    tokenizer, _ = settled(folders[:2], tmp_path, nodes=nodes)
    from efmodel.protocol import describe_model
    from tests.conftest import small_config

    request = describe_model(small_config(), tokenizer)
    nodes.gather(grid, 2, request)
    assert "vocabulary: loses" not in caplog.text
    grid.node_ids = [1, 2, 3]
    nodes.gather(grid, 2, request)
    assert nodes.texts[3] == TextCount(5, 0, 23, 3)
    assert "loses 13.0% of 23 letters" in caplog.text and "(1 nodes)" in caplog.text


def test_models_with_a_vocabulary_of_their_own_keep_it(folders, tmp_path):
    model, tokenizer = loading.starting_model(Settings(vocabulary="ru", language="ru"))
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    kept, grid = settled(folders, tmp_path, model=str(tmp_path / "saved"))
    assert vocabulary.to_json(kept) == vocabulary.to_json(tokenizer) and not grid.sent
    # Another vocabulary that is named gives it new heads.
    other = Settings(model=str(tmp_path / "saved"), vocabulary="de")
    changed, german = loading.starting_model(other)
    assert changed.config.vocab_size == len(german) == 34
    assert changed.exits["1"].projection.weight.shape[0] == 34
    before, after = model.state_dict(), changed.state_dict()
    differ = {name for name in before if before[name].shape != after[name].shape}
    assert differ and all(".projection." in name and name.startswith("exits") for name in differ)
