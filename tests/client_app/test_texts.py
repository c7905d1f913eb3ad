"""What a node answers about its texts."""

from flwr.app import ConfigRecord

from client_app.task import Task
from client_app.texts import counted
from efmodel.protocol import ALPHABET, ASK_ALPHABET, TOKENIZER, read_texts
from efmodel.settings import Settings
from efmodel.speech import vocabulary
from tests.conftest import write_folder


def test_a_simulated_node_counts_its_own_texts_only(tmp_path):
    rows = [
        (f"{who}{i}.wav", f"{word} 1", who, 1.0) for who, word in ("xa", "yb") for i in range(3)
    ]
    folder = write_folder(tmp_path / "d", rows)
    description = vocabulary.to_json(vocabulary.of_preset("tiny"))
    settings = Settings(data="audiofolder", data_path=str(folder), max_utterances=2)

    def answer(place, **request):
        config = {"partition-id": place, "num-partitions": 2}
        return counted(Task(7, config, settings, ConfigRecord({TOKENIZER: description, **request})))

    told = answer(1, **{ASK_ALPHABET: True})
    assert read_texts(ConfigRecord(told)).alphabet == {"b": 2, "1": 2}
    assert answer(1) == {"text-counts": [2, 0, 4, 2]} and ALPHABET not in answer(0)


def test_an_answer_that_is_nonsense_says_nothing():
    for nonsense in (
        {}, {"text-counts": [1, 2, 3]}, {"text-counts": [1, 0, 1, -1]},
        {"text-counts": [1, 0, 1, 0], ALPHABET: "ab", "alphabet-counts": [1]},
    ):  # fmt: skip
        assert read_texts(ConfigRecord(nonsense)) is None
