"""Where recordings come from, and what is said when they are not in order."""

import json
import logging

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
        (json.dumps({"file_name": "a.wav", "words": "one"}), "line 1: found columns .*wanted text"),
        ("", "found no rows"),
    ],
)
def test_bad_metadata_names_file_and_line(tmp_path, line, complaint):
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(recordings.DataError, match=complaint):
        recordings.audiofolder(tmp_path)


def test_one_bad_row_is_left_out_counted_and_named(tmp_path, caplog):
    rows = [
        {"file_name": "a.wav", "text": "one", "speaker": "x"},
        {"file_name": "b.wav", "text": None, "speaker": "x"},
        {"file_name": "c.wav", "text": "three", "speaker": None},
        {"file_name": "d.wav", "text": "four"},
    ]
    lines = [json.dumps(row) for row in rows] + ["{oops", "7"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    with caplog.at_level("WARNING", logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        read = corpus.load("audiofolder", str(tmp_path))
        logging.getLogger("flwr").removeHandler(caplog.handler)
    # A recording without words stays: preparing it names and counts it with the others.
    assert read.train["text"][:] == ["one", None]
    assert read.left_out == {"train: unusable row": 4}
    file = tmp_path / "metadata.jsonl"
    assert read.faults == [
        f"{file}, line 3: found no speaker, wanted file_name, text, speaker",
        f"{file}, line 4: found no speaker, wanted file_name, text, speaker",
        f"{file}, line 5: found no JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)), wanted an object",
        f"{file}, line 6: found 7, wanted an object",
    ]
    logged = [record.getMessage() for record in caplog.records]
    assert set(read.faults) <= set(logged)
    assert f"{tmp_path}: rows left out: train: unusable row x4" in logged


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file_name,text,speaker\na.wav,été,x\n"),
        ("metadata.csv", "file_name,text,speaker\r\na.wav,été,x\r\n"),
        ("metadata.jsonl", '{"file_name": "a.wav", "text": "été", "speaker": "x"}\n'),
    ],
)
def test_a_byte_order_mark_is_no_text_and_another_encoding_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode("utf-8-sig"))
    assert recordings.audiofolder(tmp_path).train[:]["text"] == ["été"]
    (tmp_path / name).write_bytes(content.encode("cp1252"))
    line = 2 if name.endswith("csv") else 1
    with pytest.raises(recordings.DataError) as error:
        recordings.audiofolder(tmp_path)
    assert f"{tmp_path / name}, line {line}: found the byte 0xe9, wanted UTF-8" in str(error.value)


@pytest.mark.parametrize("rest", ["b.wav,two,x\n", 'b.wav,"two, too",x\n', "b.wav,two,x\n" * 9])
def test_an_unclosed_quote_names_the_line_where_it_opens(tmp_path, rest):
    rows = 'file_name,text,speaker\na.wav,"so, ""well""\nsaid",x\nb.wav,"one,x\n' + rest
    (tmp_path / "metadata.csv").write_text(rows)
    with pytest.raises(recordings.DataError, match=r"metadata\.csv, line 4: found a quote that"):
        recordings.audiofolder(tmp_path)


def test_a_table_that_cannot_be_read_to_its_end_is_not_used_in_part(tmp_path):
    write_folder(tmp_path / "test", [("c.wav", "six", "z", 0.5)])
    (tmp_path / "train").mkdir()
    rows = 'file_name,text,speaker\na.wav,one,x\nb.wav,"two,x\n'
    (tmp_path / "train" / "metadata.csv").write_text(rows)
    with pytest.raises(recordings.DataError, match="line 3: found a quote that"):
        recordings.audiofolder(tmp_path)


def test_csv_rows_with_too_few_or_too_many_fields_are_left_out(tmp_path):
    rows = "file_name,text,speaker\na.wav,one,x\nb.wav,one, two,x\nc.wav,one\n,one,x\nd.wav,,x\n"
    (tmp_path / "metadata.csv").write_text(rows)
    read = recordings.audiofolder(tmp_path)
    assert read.train["text"][:] == ["one", ""]
    assert [fault.split("line ")[1] for fault in read.faults] == [
        "3: found 4 fields, wanted quotes around the separators in a text",
        "4: found no speaker, wanted file_name, text, speaker",
        "5: found no file_name, wanted file_name, text, speaker",
    ]


def test_missing_things_are_named(tmp_path):
    with pytest.raises(recordings.DataError, match="found no folder .*nowhere"):
        corpus.load("audiofolder", str(tmp_path / "nowhere"))
    with pytest.raises(recordings.DataError, match="found no recordings with texts"):
        corpus.load("audiofolder", str(tmp_path))
    with pytest.raises(
        recordings.DataError,
        match="found 'libri', wanted one of audiofolder, .*librispeech, .*sample",
    ):
        corpus.load("libri", "")
    with pytest.raises(recordings.DataError, match="data-path: found nothing"):
        corpus.load("audiofolder", "")


def test_a_folder_is_its_own_path_and_a_name_keeps_the_path_of_its_copy(tmp_path):
    assert corpus.named(str(tmp_path), "/copy") == ("audiofolder", str(tmp_path.resolve()))
    assert corpus.named("librispeech", "/copy") == ("librispeech", "/copy")
    assert corpus.named("librispeech") == ("librispeech", "")
