"""Tables as spreadsheets, scripts and people write them."""

import json

import pytest

from efmodel.settings import Settings, SettingsError
from efmodel.speech import audio, recordings


def read(folder, columns=""):
    return recordings.audiofolder(folder, columns)


def rows(folder, columns=""):
    train = read(folder, columns).train
    return list(zip(train["speaker"][:], train["text"][:], strict=True))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["data.csv ;", "data.csv ,", "data.csv \t", "metadata.tsv \t"])
def test_any_separator_mark_and_line_end(tmp_path, record, text, encoding, end, form):
    name, separator = form.split(" ")
    record(tmp_path / "a.wav")
    fields = [["Path", "Sentence", "client_id"], ["a.wav", '"Grüße, ""du""; hier"', "anna"]]
    text(tmp_path / name, end.join(map(separator.join, fields)) + end, encoding)
    assert rows(tmp_path) == [("anna", 'Grüße, "du"; hier')]


@pytest.mark.parametrize(
    "columns",
    [
        ("audio", "transcription", "speaker_id"),
        ("path", "sentence", "client_id"),
        ("file_name", "text", "speaker"),
        ("audio_filepath", "transcript", "spk_id"),
        ("wav_filename", "transcript", "user"),
        ("Audio File", "Text", "Speaker-ID"),
    ],
)
def test_usual_names_of_columns(tmp_path, record, columns):
    record(tmp_path / "a.wav")
    values = dict(zip(columns, ("a.wav", "one", "anna"), strict=True))
    (tmp_path / "data.jsonl").write_text(json.dumps({"id": 1, **values}) + "\n")
    assert rows(tmp_path) == [("anna", "one")]


def test_other_names_are_given_in_the_run_config(tmp_path, record, text):
    record(tmp_path / "a.wav")
    text(tmp_path / "data.csv", "datei;satz;wer;text\na.wav;Ja.;anna;notes\n")
    with pytest.raises(recordings.DataError, match="found columns datei, satz.*wanted audio"):
        rows(tmp_path)
    assert rows(tmp_path, "audio=datei,text=satz, speaker=wer") == [("anna", "Ja.")]
    with pytest.raises(recordings.DataError, match="wanted text: words"):
        rows(tmp_path, "audio=datei,text=words")


@pytest.mark.parametrize("columns", ["satz", "text=", "words=satz", "text=a,b"])
def test_columns_in_another_form_are_refused(columns):
    with pytest.raises(SettingsError, match="columns: found .*, wanted pairs such as text=satz"):
        Settings.from_run_config({"columns": columns})


def test_without_a_column_for_speakers_there_is_one_and_this_is_said(tmp_path, record, text):
    record(tmp_path / "a.wav")
    text(tmp_path / "metadata.csv", "file_name,text\na.wav,one\n")
    assert rows(tmp_path) == [("speaker", "one")]
    assert "found nothing that says who speaks" in read(tmp_path).notes[0]


def test_parts_of_a_recording(tmp_path, record, text):
    record(tmp_path / "talk.wav", 4.0)
    lines = ["talk.wav;1,5;2;one", "talk.wav;3;;two", "talk.wav;2;1;no", "talk.wav;nan;1;no"]
    text(tmp_path / "metadata.csv", "\n".join(["path;start;end;text", *lines]))
    found = read(tmp_path)
    decoded = [audio.decode(row["audio"]["path"]).seconds for row in found.train]
    assert decoded == [0.5, 1.0] and found.left_out == {"train: unusable row": 2}
    assert found.faults[0].endswith("found start 2 and end 1, wanted an end after the start")
    assert found.faults[1].endswith("found start 'nan', wanted seconds")


def test_a_column_names_the_half(tmp_path, record, text):
    record(tmp_path / "a.wav")
    lines = ["a.wav,one,train", "a.wav,two,test", "a.wav,three,validation"]
    text(tmp_path / "all.csv", "\n".join(["path,text,split", *lines]))
    found = read(tmp_path)
    assert found.train["text"][:] == ["one"] and found.test["text"][:] == ["two"]


def test_dev_is_to_test_on_if_nothing_else_is(tmp_path, record, text):
    record(tmp_path / "a.wav")
    for half in ("train", "dev"):
        text(tmp_path / f"{half}.csv", f"path,text\na.wav,{half}\n")
    found = read(tmp_path)
    assert found.train["text"][:] == ["train"] and found.test["text"][:] == ["dev"]


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("clips\\a.wav", "clips/a.wav"),
        ("C:\\Users\\me\\speech\\clips\\a.wav", "clips/a.wav"),
        ("/home/someone/speech/clips/a.wav", "clips/a.wav"),
        ("a.wav", "wavs/a.wav"),
        ("a", "clips/a.flac"),
        ("sub/a", "sub/a.mp3"),
    ],
)
def test_paths_as_other_machines_write_them(tmp_path, record, written, lies):
    record(tmp_path / lies)
    (tmp_path / "data.jsonl").write_text(json.dumps({"path": written, "text": "one"}))
    assert read(tmp_path).train["audio"][0]["path"] == str(tmp_path / lies)


def test_a_missing_file_keeps_the_name_that_the_table_gives_it(tmp_path):
    line = {"path": "D:\\x\\gone.wav", "text": "one"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line))
    assert read(tmp_path).train["audio"][0]["path"].endswith("D:\\x\\gone.wav")


def test_a_list_of_objects_and_audio_as_the_datasets_library_writes_it(tmp_path, record):
    record(tmp_path / "a.wav")
    values = [{"audio": {"path": "a.wav", "bytes": None}, "text": "one"}, 7]
    (tmp_path / "data.json").write_text(json.dumps(values, indent=1))
    (tmp_path / "config.json").write_text("{\n}")  # no table
    found = read(tmp_path)
    assert found.train["text"][:] == ["one"]
    assert "item 2: found 7, wanted an object" in found.faults[0]
