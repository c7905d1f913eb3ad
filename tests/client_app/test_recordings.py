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
