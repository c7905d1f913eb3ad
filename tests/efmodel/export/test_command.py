"""``ef-asr export``, and ``ef-asr transcribe`` with what it wrote."""

import shutil
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from efmodel.cli import build
from efmodel.export import command
from tests.conftest import tone, write_abc, write_folder
from tests.efmodel.export.test_onnx_asr import load


@pytest.fixture(scope="session")
def abc(tmp_path_factory):
    thresholds = {"confidence": [0.0, -1e9]}
    return write_abc(tmp_path_factory.mktemp("abc"), exit_thresholds=thresholds)


def ef_asr(*arguments: object):
    return CliRunner().invoke(build(), list(map(str, arguments)))


def written(folder: Path) -> list[str]:
    """Return the names of a folder's files but for the model card."""
    return sorted({path.name for path in folder.iterdir()} - {"README.md"})


def test_a_model_cut_at_an_exit_is_exported_and_transcribes(abc, tmp_path):
    done = ef_asr("export", "--model", abc, "--output", tmp_path / "out", "--exit", 2)
    assert done.exit_code == 0, done.output
    assert "stage-2.onnx" in done.stdout and "2 stages" in done.stdout
    assert written(tmp_path / "out") == ["recogniser.json", "stage-1.onnx", "stage-2.onnx"]
    soundfile.write(tmp_path / "a.wav", tone(1.0), 16_000)
    for options, said in (
        (["--device", "auto"], "b\n"),
        (["--exit", 1], "a\n"),
        (["--exit", "auto"], "b\n"),
        (["--hotwords", "b"], "b\n"),
    ):
        arguments = [tmp_path / "a.wav", "--model", tmp_path / "out", *options]
        done = ef_asr("transcribe", *arguments)
        assert (done.exit_code, done.stdout) == (0, said), done.output
    done = ef_asr("transcribe", tmp_path / "a.wav", "--model", tmp_path / "out", "--device", "cuda")
    assert done.exit_code == 2 and "device: found cuda, wanted cpu" in done.stderr


CARD = """\
---
language: de
license: mit
library_name: transformers
---

# A model

What is known of it.
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quantise", "int8"], "as ONNX with int8 weights"),
        (["--format", "onnx-asr"], "Exit 3 for the library onnx-asr."),
    ],
)
def test_the_models_card_goes_with_it(abc, tmp_path, options, said):
    model = shutil.copytree(abc, tmp_path / "model")
    (model / "README.md").write_text(CARD)
    done = ef_asr("export", "--model", model, "--output", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    _, head, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert {"language: de", "license: mit", "library_name: onnx"} <= set(head.splitlines())
    assert text.strip().startswith("# A model\n\nWhat is known of it.\n\n## This folder\n")
    assert said in text


def test_word_errors_of_float32_and_int8_are_printed(abc, tmp_path):
    rows = [("one.wav", "b", "x", 1.0), ("two.wav", "b c", "x", 1.0)]
    data = write_folder(tmp_path / "data", rows)
    done = ef_asr("export", "--model", abc, "--output", tmp_path / "out", "--quantise", "int8",
                  "--check", data)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "2 utterances, WER %" in done.stdout and done.stderr == ""
    rates = [line.split("│")[1:4] for line in done.stdout.splitlines() if line.count(".") == 2]
    wrong = [("1", 100.0), ("2", 100 / 3), ("3", 200 / 3)]  # "a", "b" and "c" of three words
    assert [tuple(map(str.strip, row)) for row in rates[-3:]] == [
        (exit, f"{rate:.2f}", f"{rate:.2f}") for exit, rate in wrong
    ]
    soundfile.write(tmp_path / "a.wav", tone(1.0), 16_000)
    done = ef_asr("transcribe", tmp_path / "a.wav", "--model", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (0, "c\n")


def test_an_exit_where_int8_costs_more_is_said_aloud(capsys):
    command._warn({"float32": [0.1, 0.1, 0.0], "int8": [0.102, 0.103, 0.001]})
    lines = capsys.readouterr().err.splitlines()
    assert [line[:6] for line in lines] == ["exit 2", "exit 3"]
    assert "int8 raises WER from 10.00 % to 10.30 %" in lines[0]


def test_a_name_on_the_hub_is_exported_from_its_copy(abc, hub, tmp_path):
    hub("someone/abc", abc)
    done = ef_asr("export", "--model", "someone/abc", "--output", tmp_path / "out")
    assert done.exit_code == 0 and "3 stages" in done.stdout, done.output


def test_one_exit_is_written_for_onnx_asr(abc, tmp_path):
    done = ef_asr("export", "--model", abc, "--output", tmp_path / "out", "--exit", 2,
                  "--format", "onnx-asr", "--quantise", "int8")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "model.int8.onnx: exit 2, " in done.stdout
    assert written(tmp_path / "out") == [
        "config.json", "model.int8.onnx", "model.onnx", "vocab.txt",
    ]  # fmt: skip
    assert load(tmp_path / "out").recognize(tone(1.0)) == "b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--format", "onnx-asr", "--check", "sample"],
            "check: found --format onnx-asr, wanted onnx",
        ),
        (["--exit", "auto"], "exit: found 'auto', wanted a number from 1, or all"),
        (["--exit", "4"], "exit: found 4, wanted 1 to 3"),
    ],
)
def test_mistakes_are_one_line(abc, tmp_path, options, message):
    done = ef_asr("export", "--model", abc, "--output", tmp_path / "out", *options)
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(abc, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = ef_asr("export", "--model", abc, "--output", tmp_path)
    assert done.exit_code == 2 and "output: found notes.txt in" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


def test_a_missing_package_is_named(abc, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = ef_asr("export", "--model", abc, "--output", tmp_path / "out")
    assert done.exit_code == 2 and "export: found no package onnx," in done.stderr
