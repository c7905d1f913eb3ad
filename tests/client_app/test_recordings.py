"""What a node reads once and keeps from round to round."""

from flwr.app import ConfigRecord

from client_app.recordings import recordings
from client_app.task import Task
from efmodel.settings import Settings
from efmodel.speech import text, vocabulary
from tests.conftest import small_config, write_folder


def test_speech_is_read_once_for_each_spelling(tmp_path):
    folder = write_folder(tmp_path / "d", [(f"{i}.wav", "one two", "x", 1.0) for i in range(3)])
    task = Task(7, {"data-path": str(folder)}, Settings(), ConfigRecord())

    def read(tokenizer):
        # Each round's message makes a tokenizer of its own.
        arrived = vocabulary.from_json(vocabulary.to_json(tokenizer))
        return recordings(task, small_config(), arrived)

    characters, pieces = vocabulary.of_preset("tiny"), vocabulary.of_preset("paper")
    by_character = read(characters)
    assert read(characters) is by_character
    by_piece = read(pieces)
    assert by_piece[0][0].labels == text.encode("one two", pieces) != by_character[0][0].labels


def test_a_device_names_the_columns_of_its_own_table(tmp_path):
    folder = write_folder(tmp_path / "d", [(f"{i}.wav", "-", "x", 1.0) for i in range(2)])
    (folder / "metadata.jsonl").unlink()
    (folder / "data.csv").write_text("path;satz;wort\n0.wav;one;two\n1.wav;one;two\n")
    node = {"data-path": str(folder)}
    tokenizer = vocabulary.of_preset("tiny")
    for run, of_node, words in (
        ({"columns": "text=satz"}, {}, "one"),
        ({"columns": "text=satz"}, {"columns": "text=wort"}, "two"),
    ):
        task = Task(7, {**node, **of_node}, Settings(**run), ConfigRecord())
        found = recordings(task, small_config(), tokenizer)
        assert [utterance.text for utterance in found.to_train] == [words, words]
