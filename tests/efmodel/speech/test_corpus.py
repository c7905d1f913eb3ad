"""Where recordings come from, and what is said when they are not in order."""

import json

import pytest

from efmodel.settings import Settings
from efmodel.speech import corpus, recordings
from tests.conftest import write_folder


def test_train_and_test_halves(tmp_path):
    write_folder(tmp_path / "d" / "train", [("a.wav", "one", "x", 0.5), ("b.wav", "two", "y", 0.5)])
    write_folder(tmp_path / "d" / "test", [("c.wav", "six", "z", 0.5)])
    both = corpus.load("audiofolder", str(tmp_path / "d"))
    assert recordings.speakers(both.train) == ["x", "y"]
    assert both.test["text"][:] == ["six"]
    assert both.test[0]["audio"] == {"bytes": None, "path": str(tmp_path / "d" / "test" / "c.wav")}


def test_a_folder_without_halves_is_for_training(tmp_path):
    folder = write_folder(tmp_path / "device", [("a.wav", "one", "x", 0.5)])
    assert corpus.load("audiofolder", str(folder)).test is None


def test_a_server_has_speech_to_test_on_alone(tmp_path):
    write_folder(tmp_path / "test", [("c.wav", "six", "z", 0.5)])
    alone = corpus.load("audiofolder", str(tmp_path))
    assert alone.test["text"][:] == ["six"] and len(alone.train) == 0


def test_tuning_tests_on_speakers_held_back_of_the_training_half(tmp_path):
    rows = [(f"{i}.wav", f"word {i}", f"speaker {i % 5}", 0.5) for i in range(10)]
    write_folder(tmp_path / "train", rows)
    write_folder(tmp_path / "test", [("c.wav", "secret", "z", 0.5)])
    tuning = corpus.load(
        "audiofolder", str(tmp_path), recordings.Limits.of(Settings(tune_speakers=2))
    )
    trained, tested = set(tuning.train["speaker"]), set(tuning.test["speaker"])
    assert (len(trained), len(tested)) == (3, 2) and not trained & tested
    assert sorted([*tuning.train["text"], *tuning.test["text"]]) == [row[1] for row in rows]
    with pytest.raises(
        recordings.DataError, match="tune-speakers: found 5, wanted fewer than the 5"
    ):
        corpus.load("audiofolder", str(tmp_path), recordings.Limits(tune_speakers=5))


def test_csv(tmp_path):
    (tmp_path / "metadata.csv").write_text('file_name,text,speaker\na.wav,"one, two",x\n')
    assert corpus.load("audiofolder", str(tmp_path)).train["text"][:] == ["one, two"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{oops", r"metadata\.jsonl, line 1: found no JSON"),
        ("[1]", "line 1: found .*wanted an object"),
        (json.dumps({"file_name": "a.wav", "text": "one"}), "speaker is missing"),
        ("", "found no rows"),
    ],
)
def test_bad_metadata_names_file_and_line(tmp_path, line, complaint):
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(recordings.DataError, match=complaint):
        recordings.audiofolder(tmp_path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(recordings.DataError, match="found no folder .*nowhere"):
        corpus.load("audiofolder", str(tmp_path / "nowhere"))
    with pytest.raises(recordings.DataError, match="found neither metadata.jsonl nor metadata.csv"):
        corpus.load("audiofolder", str(tmp_path))
    with pytest.raises(
        recordings.DataError,
        match="found 'libri', wanted one of audiofolder, .*librispeech, sample",
    ):
        corpus.load("libri", "")
    with pytest.raises(recordings.DataError, match="data-path: found nothing"):
        corpus.load("audiofolder", "")


def test_a_folder_is_its_own_path_and_a_name_keeps_the_path_of_its_copy(tmp_path):
    assert corpus.named(str(tmp_path), "/copy") == ("audiofolder", str(tmp_path.resolve()))
    assert corpus.named("librispeech", "/copy") == ("librispeech", "/copy")
    assert corpus.named("librispeech") == ("librispeech", "")
