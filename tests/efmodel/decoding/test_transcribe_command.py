"""``ef-asr transcribe``: what goes to stdout, to stderr and into files."""

import json
from pathlib import Path

import pytest
import soundfile

from efmodel.decoding.recogniser import Recogniser, Result
from efmodel.decoding.screen import Tally
from tests.conftest import tone

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("rec/one.wav", 0.5), ("rec/deep/zwölf.flac", 1.5), ("two.wav", 0.7)):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(name, tone(seconds), 16_000)


def test_a_folder_a_file_and_a_last_line(abc, ef_asr):
    done = ef_asr("transcribe", "rec", "two.wav", "--model", abc)
    assert done.exit_code == 0
    assert done.stdout == "rec/one.wav: c\nrec/deep/zwölf.flac: c\ntwo.wav: c\n"
    [line] = done.stderr.splitlines()
    assert line.startswith("3 recordings, 2.7 s of audio in ")
    assert line.endswith("x real time, exit 3, 4 of 4 layers")


def test_one_recording_is_its_text_and_nothing_else(abc, ef_asr):
    for arguments in (["two.wav"], ["t*.wav"], ["two.wav", "--words"]):
        done = ef_asr("transcribe", *arguments, "--model", abc)
        assert (done.stdout, done.stderr) == ("c\n", "")


def test_standard_input(abc, ef_asr):
    data = Path("two.wav").read_bytes()
    assert ef_asr("transcribe", "-", "--model", abc, input=data).stdout == "c\n"
    done = ef_asr("transcribe", "-", "--model", abc, "--format", "json", input=data)
    assert json.loads(done.stdout)["file"] == "standard input"
    done = ef_asr("transcribe", "-", "--model", abc, input=b"no audio")
    assert done.exit_code == 1 and "standard input: found no readable audio" in done.stderr


def test_a_bad_file_among_good_ones_and_a_row_without_a_path(abc, ef_asr):
    Path("rec/bad.wav").write_bytes(b"no audio")
    Path("list.csv").write_text("path,text\nrec/bad.wav,\ntwo.wav,\n,\ngone.wav,\n")
    done = ef_asr("transcribe", "list.csv", "--model", abc, "--output-dir", "out")
    assert done.exit_code == 1 and done.stdout == ""
    first, second, third, last = done.stderr.splitlines()
    assert first == "list.csv, line 4: found no path, wanted path"
    assert second.startswith("rec/bad.wav: found no readable audio")
    assert third == "gone.wav: found no file, wanted audio"
    assert last.startswith("1 recording, 0.7 s of audio") and last.endswith(
        "3 failed, written to out"
    )
    assert [path.name for path in Path("out").rglob("*.*")] == ["two.txt"]


def test_a_file_of_each_format_for_each_recording(abc, ef_asr):
    done = ef_asr("transcribe", "rec", "--model", abc, "--format", "txt,json,srt,vtt,tsv",
                  "--output-dir", "out/new", "--exit", 2)  # fmt: skip
    assert done.exit_code == 0 and done.stdout == ""
    files = sorted(str(path.relative_to("out/new")) for path in Path("out/new").rglob("*.*"))
    stems = ("deep/zwölf", "one")
    assert files == [f"{s}.{f}" for s in stems for f in ("json", "srt", "tsv", "txt", "vtt")]
    value = json.loads(Path("out/new/deep/zwölf.json").read_text("utf-8"))
    assert (value["file"], value["text"], value["exit"]) == ("rec/deep/zwölf.flac", "b", 2)
    assert value["seconds"] == 1.5 and value["words"][0]["word"] == "b"
    assert Path("out/new/one.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:00,500\nb\n")


def test_json_on_the_terminal_has_a_line_for_each_recording(abc, ef_asr):
    done = ef_asr("transcribe", "rec", "two.wav", "--model", abc, "--format", "json")
    values = [json.loads(line) for line in done.stdout.splitlines()]
    assert [value["file"] for value in values] == ["rec/one.wav", "rec/deep/zwölf.flac", "two.wav"]
    done = ef_asr("transcribe", "two.wav", "--model", abc, "--format", "srt")
    assert done.stdout == "1\n00:00:00,000 --> 00:00:00,700\nc\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rec", "--format", "srt"], "format: found srt for 2 recordings, wanted --output-dir for"),
        (["two.wav", "--format", "srt,vtt"], "format: found srt, vtt, wanted one, or --output-dir"),
        (["two.wav", "--format", "docx"], "format: found 'docx', wanted one of txt, json"),
        (["two.wav", "--output-dir", "two.wav"], "output-dir: found two.wav (File exists)"),
        (["two.wav", "--columns", "satz"], "columns: found 'satz', wanted pairs"),
        (["two.wav", "--device", "gpu"], "device: found 'gpu', wanted cpu, cuda"),
        (["two.wav", "--device", "cuda:99"], "GPUs on this machine, wanted cuda:99"),
        (["two.wav", "--exit", "deep"], "exit: found 'deep', wanted a number from 1, or auto"),
        (["two.wav", "--exit", "1", "--policy", "entropy"], "policy: found exit 1 with it"),
        (["two.wav", "--policy", "entropi"], "policy: found 'entropi', wanted one of confidence"),
        (["*.mp3"], "*.mp3: found no audio file that matches"),
    ],
)
def test_mistakes_are_one_line(abc, ef_asr, arguments, message):
    done = ef_asr("transcribe", *arguments, "--model", abc)
    assert done.exit_code == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_text_beside_its_recording_is_not_written_over(abc, ef_asr):
    Path("two.txt").write_text("the reference\n")
    done = ef_asr("transcribe", "two.wav", "--model", abc, "--output-dir", ".")
    assert done.exit_code == 2 and "two.txt beside its recording" in done.stderr
    assert Path("two.txt").read_text() == "the reference\n"
    done = ef_asr("transcribe", "two.wav", "--model", abc, "--output-dir", ".", "--format", "srt")
    assert done.exit_code == 0 and Path("two.srt").is_file()


def test_exits_policies_and_deadlines(abc, ef_asr):
    def text(*options: object) -> str:
        return ef_asr("transcribe", "two.wav", "--model", abc, *options).stdout

    assert text("--exit", "auto") == "b\n"  # exit 1 never stops, exit 2 always does
    assert text("--policy", "confidence") == "b\n"
    assert text("--deadline", 0) == "a\n"
    assert text("--deadline", 600, "--device", "auto", "--batch-seconds", 5) == "c\n"


def test_the_last_line_has_the_mean_of_exits_and_layers(abc):
    tally = Tally(Recogniser.from_pretrained(abc).engine.exit_layers)
    results = [Result("", [], [3, 1], 60.0, 1.0), Result("", [], [1], 90.0, 1.0),
               Result("", [], [], 0.0, 0.0)]  # fmt: skip
    for result in results:
        tally.add(result)
    assert tally.line(0, 10.0) == (
        "3 recordings, 2.5 minutes of audio in 10.0 s, 15x real time, mean exit 1.4, "
        "1.6 of 4 layers"
    )
