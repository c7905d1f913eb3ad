"""Which recordings the inputs name, and where the output of each one goes."""

import io
import os
from pathlib import Path, PurePath

import pytest
import soundfile

from efmodel.decoding.sources import output_names, sources, total_seconds
from efmodel.errors import UserError
from efmodel.speech.layouts.layout import Fault
from tests.conftest import tone


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two folders with empty files, as the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("A/x.wav", "A/x.flac", "A/sub/y.MP3", "A/.hidden.wav", "A/.git/z.wav",
                 "A/notes.txt", "B/x.wav", "C/readme.md", "odd [1].wav"):  # fmt: skip
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    return tmp_path


def names(*inputs: str) -> list[str]:
    return [source.name for source in sources(inputs, {})]


def outputs(*inputs: str) -> list[str]:
    return [str(name) for name in output_names(sources(inputs, {}))]


def test_a_folder_gives_the_audio_files_below_it(here):
    assert names("A") == ["A/x.flac", "A/x.wav", "A/sub/y.MP3"]
    with pytest.raises(UserError, match="C: found no audio file in this folder, wanted .wav, "):
        sources(["C"], {})


def test_a_glob_is_expanded_and_a_file_of_that_name_is_not(here):
    assert names("*/*.wav") == ["A/x.wav", "B/x.wav"]
    every = ["A/sub/y.MP3", "A/x.flac", "A/x.wav", "B/x.wav", "odd [1].wav"]
    assert names("**/*.*") == every
    assert names("C/*.md") == ["C/readme.md"]  # who names the suffix means it
    assert names("odd [1].wav", "odd [1].wav#t=1,2") == ["odd [1].wav", "odd [1].wav#t=1,2"]
    with pytest.raises(UserError, match=r"A/\*\.ogg: found no audio file that matches"):
        sources(["A/*.ogg"], {})


def test_each_recording_counts_once_and_one_that_is_missing_is_named(here):
    assert names("A/x.wav", "A", "A/*.wav", f"{here}/A/x.wav", "gone.wav") == [
        "A/x.wav", "A/x.flac", "A/sub/y.MP3", "gone.wav"]  # fmt: skip


def test_a_list_has_a_path_a_line(here):
    Path("list.txt").write_text("\ufeffA/x.wav\r\n\n  B/x.wav#t=1,2.5 \nA/none.wav\n", "utf-8")
    assert names("list.txt") == ["A/x.wav", "B/x.wav#t=1,2.5", "A/none.wav"]
    Path("A/list.txt").write_text("x.wav\nB/x.wav\n")  # beside the list, or from here
    assert names("A/list.txt") == ["A/x.wav", "B/x.wav"]
    Path("text.txt").write_text("what was said\n")
    with pytest.raises(UserError, match="text.txt, line 1: found 'what was said', wanted the path"):
        sources(["text.txt"], {})
    with pytest.raises(UserError, match="A/notes.txt: found no path"):
        sources(["A/notes.txt"], {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "path;start;end\nA/x.wav;;\nB/x.wav;1,5;3\n;;\n"),
        ("t.tsv", "audio_filepath\toffset\tduration\nA/x.wav\t\t\nB/x.wav\t1.5\t1.5\n\t\t\n"),
        ("t.jsonl", '{"audio": "A/x.wav"}\n{"audio": "B/x.wav", "start": 1.5, "end": 3}\n{"a": 1}'),
    ],
)
def test_a_table_needs_a_column_of_paths_only(here, name, content):
    Path(name).write_text(content)
    *found, fault = sources([name], {})
    assert [source.name for source in found] == ["A/x.wav", "B/x.wav#t=1.5,3"]
    assert isinstance(fault, Fault)
    assert fault.where == f"{name}, line {len(content.splitlines())}"
    assert [str(output) for output in output_names(found)] == ["A/x", "B/x_1.5-3"]


def test_a_table_without_such_a_column_and_one_with_a_name_of_its_own(here):
    Path("t.csv").write_text("datei\nA/x.wav\n")
    with pytest.raises(UserError, match="t.csv, line 1: found columns datei, wanted audio: "):
        sources(["t.csv"], {})
    [source] = sources(["t.csv"], {"audio": "datei"})
    assert source.name == "A/x.wav"
    Path("t.jsonl").write_text("[oops\n")
    with pytest.raises(UserError, match="t.jsonl"):
        sources(["t.jsonl"], {})


def test_standard_input_is_one_recording(here, monkeypatch):
    given = io.TextIOWrapper(io.BytesIO(b"RIFF"))
    monkeypatch.setattr("sys.stdin", given)
    [source] = sources(["-", "-"], {})
    assert source.audio.read() == b"RIFF" and source.name == "standard input"
    assert output_names([source]) == [PurePath("stdin")]
    monkeypatch.setattr(given, "isatty", lambda: True, raising=False)
    with pytest.raises(UserError, match="found a terminal as standard input, wanted the bytes"):
        sources(["-"], {})


def test_outputs_keep_the_place_in_a_folder_and_never_collide(here):
    assert outputs("A/sub/y.MP3", "B/x.wav") == ["y", "x"]
    assert outputs("A") == ["x.flac", "x.wav", "sub/y"]
    assert outputs("B", "A/sub") == ["x", "y"]
    assert outputs("A/x.wav", "B/x.wav") == ["A/x", "B/x"]
    assert outputs("A/**/*.*") == ["sub/y", "x.flac", "x.wav"]
    assert outputs("A/x.wav", "A/x.flac", "B/x.wav") == ["A/x.wav", "A/x.flac", "B/x"]
    assert outputs("B/x.wav#t=0,5", "B/x.wav#t=5") == ["x_0-5", "x_5-"]
    for name in ("D/a.wav", "D/A.wav", "D/e/a.wav"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    if os.path.samefile("D/a.wav", "D/A.wav"):
        pytest.skip("the disk takes a and A for the same name")
    assert outputs("D") == ["A.wav-1", "a.wav-2", "e/a"]


def test_how_much_audio_there_is_if_headers_say(tmp_path):
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, tone(2.0), 16_000)
    found = sources([str(tmp_path), f"{tmp_path}/a.wav#t=1.5", f"{tmp_path}/gone.wav"], {})
    assert total_seconds(found) == pytest.approx(4.5)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    assert total_seconds(sources([str(tmp_path)], {})) is None
