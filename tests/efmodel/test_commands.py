"""``ef-asr transcribe`` and ``ef-asr evaluate`` on a saved model."""

import io
import os
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from typer.testing import CliRunner

from efmodel import EarlyExitForCTC
from efmodel.cli import build, main
from efmodel.decoding import make_lm
from efmodel.speech import vocabulary
from efmodel.speech.normaliser import Normaliser
from tests.conftest import small_config, tone, write_abc, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that says "a" at exit 1, "b" at exit 2 and "c" at exit 3, whatever it hears."""
    return write_abc(tmp_path_factory.mktemp("run") / "model")


def ef_asr(*arguments: object):
    return CliRunner().invoke(build(), list(map(str, arguments)))


@pytest.mark.parametrize(
    ("name", "rate", "form"),
    [
        ("a.wav", 8_000, {}),
        ("a.flac", 44_100, {}),
        ("a.opus", 48_000, {"format": "OGG", "subtype": "OPUS"}),
    ],
)
def test_transcribe_reads_any_format_and_says_what_the_exit_says(
    folder, tmp_path, name, rate, form
):
    soundfile.write(tmp_path / name, tone(0.5, rate), rate, **form)
    assert ef_asr("transcribe", tmp_path / name, "--model", folder).stdout == "c\n"
    assert ef_asr("transcribe", tmp_path / name, "--model", folder, "--exit", 1).stdout == "a\n"


def test_transcribe_takes_a_run_folder_and_names_each_of_many_files(folder, tmp_path):
    for name in ("x.wav", "y.wav"):
        soundfile.write(tmp_path / name, tone(0.5), 16_000)
    (tmp_path / "bad.wav").write_text("no")
    files = [tmp_path / name for name in ("x.wav", "bad.wav", "y.wav")]
    done = ef_asr("transcribe", *files, "--model", folder.parent)
    assert done.exit_code == 1  # one could not be read, and is named; the others are not lost
    assert done.stdout == f"{tmp_path}/x.wav: c\n{tmp_path}/y.wav: c\n"
    assert f"{tmp_path}/bad.wav: found no readable audio" in done.stderr


def test_whatever_is_wrong_with_one_file_the_others_are_transcribed(folder, tmp_path, monkeypatch):
    first_layer_input = EarlyExitForCTC.first_layer_input

    def out_of_memory(model, input_values, attention_mask):
        if input_values.shape[1] > 16_000:
            raise MemoryError
        return first_layer_input(model, input_values, attention_mask)

    monkeypatch.setattr(EarlyExitForCTC, "first_layer_input", out_of_memory)
    for name, seconds in (("x.wav", 0.5), ("long.wav", 2.0), ("odd.wav", 0.5), ("piped.flac", 0.5)):
        soundfile.write(tmp_path / name, tone(seconds), 16_000)
    soundfile.write(tmp_path / "odd.wav", tone(0.5, 47_999), 47_999)
    flac = bytearray((tmp_path / "piped.flac").read_bytes())
    flac[21:26] = [flac[21] & 0xF0, 0, 0, 0, 0]  # as written to a pipe: the length is unknown
    (tmp_path / "piped.flac").write_bytes(flac)
    names = ["gone.wav", "long.wav", "odd.wav", "piped.flac", "x.wav"]
    done = ef_asr("transcribe", *[tmp_path / n for n in names], "--model", folder)
    assert done.exit_code == 1
    assert done.stdout == "".join(f"{tmp_path}/{n}: c\n" for n in names[2:])
    assert done.stderr.splitlines()[:-1] == [
        f"{tmp_path}/gone.wav: found no file, wanted audio",
        f"{tmp_path}/long.wav: could not be transcribed (MemoryError)",
    ]


def test_names_that_the_terminal_cannot_print_are_written_with_escapes(
    folder, tmp_path, monkeypatch
):
    names = ["caf\u00e9.wav", os.fsdecode(b"caf\xe9.wav")]  # the second one is no UTF-8
    for name in names:
        soundfile.write(os.fsencode(tmp_path / name), tone(0.5), 16_000, format="WAV")
    files = [str(tmp_path / name) for name in [*names, "no\u00e9.wav"]]
    monkeypatch.setattr(sys, "argv", ["ef-asr", "transcribe", *files, "--model", str(folder)])
    streams = {name: io.TextIOWrapper(io.BytesIO(), "ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    printed = {}
    for name, stream in streams.items():
        stream.flush()
        printed[name] = stream.buffer.getvalue().decode().splitlines()
    assert [Path(line).name for line in printed["stdout"]] == [
        r"caf\xe9.wav: c",
        r"caf\udce9.wav: c",
    ]
    assert "found no file" in printed["stderr"][-2]  # click writes to stderr in UTF-8


def test_an_exit_that_is_not_there_and_a_folder_that_is_no_model(folder, tmp_path):
    done = ef_asr("transcribe", "a.wav", "--model", folder, "--exit", 9)
    assert done.exit_code == 2 and "exit: found 9, wanted 1 to 3" in done.stderr
    done = ef_asr("evaluate", "--model", tmp_path, "--data", "sample")
    assert done.exit_code == 2 and f"found no config.json in {tmp_path}" in done.stderr
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = ef_asr("evaluate", "--model", tmp_path, "--data", "sample")
    assert done.exit_code == 2 and "found a bert checkpoint" in done.stderr


def test_evaluate_counts_every_word(folder, tmp_path):
    data = write_folder(tmp_path / "d", [("a.wav", "a b", "x", 0.5), ("b.wav", "c", "x", 0.5)])
    done = ef_asr("evaluate", "--model", folder, "--data", data)
    assert done.exit_code == 0, done.stderr
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    # Exit 1 says "a" twice against "a b" and "c": a missing word and a wrong one, of three.
    assert [row[3].strip() for row in rows] == ["66.67", "66.67", "66.67"]
    assert "(all): 2 utterances" in done.stdout
    done = ef_asr("evaluate", "--model", folder, "--data", tmp_path / "none")
    assert done.exit_code == 2 and "found no folder" in done.stderr


def calibration_table(output: str) -> dict[str, list[str]]:
    """The rows that ``ef-asr calibrate`` prints: WER and mean layers of each way to stop."""
    rows = [[c.strip() for c in r.split("│")] for r in output.splitlines() if r[:1] == "│"]
    return {row[1]: [row[2], row[4]] for row in rows}


def test_calibrate_writes_thresholds_that_transcribe_and_evaluate_follow(folder, tmp_path):
    """Where only exit 3 is right, every recording goes to it; where exit 1 is, it stops there."""
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    files = [("a.wav", 0.5), ("b.wav", 0.6), ("c.wav", 0.7)]
    data = {
        word: write_folder(tmp_path / word, [(name, word, "x", long) for name, long in files])
        for word in "ac"
    }
    recording = data["a"] / "a.wav"
    done = ef_asr("transcribe", recording, "--model", mine, "--exit", "auto")
    assert done.exit_code == 2 and "`ef-asr calibrate` finds them" in done.stderr

    done = ef_asr("calibrate", "--model", mine, "--data", data["c"])
    assert done.exit_code == 0, done.stderr
    assert calibration_table(done.stdout) == {
        "exit 1": ["100.00", "1.0"], "exit 2": ["100.00", "2.0"], "exit 3": ["0.00", "4.0"],
        "confidence": ["0.00", "4.0"], "entropy": ["0.00", "4.0"], "agreement": ["0.00", "4.0"],
        "oracle": ["0.00", "4.0"],
    }  # fmt: skip
    done = ef_asr("transcribe", recording, "--model", mine, "--exit", "auto")
    assert done.exit_code == 0 and done.stdout == "c\n"

    done = ef_asr("calibrate", "--model", mine, "--data", data["a"])
    assert calibration_table(done.stdout)["confidence"] == ["0.00", "1.0"]
    assert (mine / "calibration.png").stat().st_size > 5000
    found = EarlyExitForCTC.from_pretrained(mine).config.exit_thresholds
    assert {name: len(each) for name, each in found.items()} == {
        "confidence": 2, "entropy": 2, "agreement": 2
    }  # fmt: skip
    done = ef_asr("transcribe", recording, "--model", mine, "--exit", "auto")
    assert done.exit_code == 0 and done.stdout == "a\n"
    done = ef_asr("evaluate", "--model", mine, "--data", data["a"])
    assert "auto (confidence): WER 0.00 %, 1.0 layers on average, " in done.stdout


def test_evaluate_searches_with_a_language_model_or_hot_words(tmp_path):
    """A model that hears "ca" and "ba" alike, and says "ca": the texts decide."""
    pytest.importorskip("kenlm")
    tokenizer = vocabulary.of_preset("tiny")
    model = EarlyExitForCTC(small_config())
    for head in model.exits.values():
        head.projection.weight.data.zero_()
        bias = torch.full((len(tokenizer),), -100.0)
        bias[tokenizer.convert_tokens_to_ids("c")] = 0.1
        bias[tokenizer.convert_tokens_to_ids("b")] = 0.0
        head.projection.bias.data = bias
    for saved in (model, tokenizer):
        saved.save_pretrained(tmp_path / "model")
    data = write_folder(tmp_path / "d", [("a.wav", "b", "x", 0.04)])  # two frames
    with (tmp_path / "b.arpa").open("w") as file:
        make_lm.write_arpa(make_lm.ngram_model(["b b", "b"] * 20, 2), file)

    def wer(*options: object) -> str:
        done = ef_asr("evaluate", "--model", tmp_path / "model", "--data", data, *options)
        assert done.exit_code == 0, done.stderr
        row = next(line for line in done.stdout.splitlines() if line.startswith("│"))
        return row.split("│")[3].strip()

    assert wer() == "100.00"
    assert wer("--hotwords", "b") == wer("--lm", tmp_path / "b.arpa") == "0.00"
    missing = tmp_path / "none.arpa"
    done = ef_asr("evaluate", "--model", tmp_path / "model", "--data", data, "--lm", missing)
    assert done.exit_code == 2 and "none.arpa" in done.stderr


@pytest.fixture(scope="module")
def arabic(tmp_path_factory):
    """A model that says one Arabic letter, whatever it hears; its texts were in English too."""
    tokenizer = vocabulary.of_characters("خلف3", Normaliser("ar"))
    model = EarlyExitForCTC(small_config(vocab_size=len(tokenizer)))
    for head in model.exits.values():
        bias = torch.full((len(tokenizer),), -100.0)
        bias[tokenizer.get_vocab()["خ"]] = 100.0
        head.projection.bias.data = bias
    path = tmp_path_factory.mktemp("arabic")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_transcribe_prints_arabic_and_evaluate_names_the_normaliser(arabic, tmp_path):
    data = write_folder(tmp_path / "d", [("a.wav", "خَ", "x", 0.5), ("b.wav", "لـف", "x", 0.5)])
    done = ef_asr("transcribe", data / "a.wav", "--model", arabic)
    assert done.stdout == "خ\n"
    done = ef_asr("evaluate", "--model", arabic, "--data", data)
    assert "normalised for Arabic (ar): numbers, times and currencies are words" in done.stdout
    assert "50.00" in done.stdout  # the vowel mark of the first word does not count
    done = ef_asr("evaluate", "--model", arabic, "--data", data, "--language", "fa")
    assert "normalised for Persian (fa)" in done.stdout
