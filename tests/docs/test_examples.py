"""The runnable examples in docs/examples, each run as its text says.

tests/simulation/test_sweep.py runs the sweep.
"""

import json
import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoTokenizer

from efmodel import EarlyExitForCTC
from efmodel.model.loading import load
from efmodel.settings import Settings, SettingsError
from efmodel.speech import corpus, vocabulary
from efmodel.speech.recordings import DataError
from server_app.strategy import PartialFedAvg, registry
from simulation import sweep
from simulation.superlink import stop_family
from tests.conftest import tone, write_folder
from tests.deployment.speech import device_folders
from tests.efmodel.model.test_backbone import write_checkpoint
from tests.server_app.federation import OWNERS, drifting, run_rounds, tensors

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install an example package as pip would: its module, and its entry points."""

    def install(folder: Path) -> None:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        about = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        about.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", "Version: 0.1.0"]
        (about / "METADATA").write_text("\n".join(lines) + "\n")
        groups = project["entry-points"].items()
        text = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
            for group, names in groups
        )
        (about / "entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.syspath_prepend(str(folder))

    return install


def build(options: str):
    settings = Settings(
        strategy="gentle-depth", strategy_options=options, fraction_train=1.0, min_nodes=3
    )
    return registry.build(settings, OWNERS)


def test_own_strategy_moves_deep_layers_less(installed):
    installed(EXAMPLES / "own-strategy")
    capacities = {1: 1, 2: 2, 3: 3}
    start = tensors("start")
    strategy = build("decay=0.5")
    assert isinstance(strategy, PartialFedAvg) and strategy.decay == 0.5
    plain = PartialFedAvg(OWNERS, min_train_nodes=3, min_available_nodes=3, fraction_train=1.0)
    gentle = run_rounds(strategy, drifting(capacities), capacities, start, rounds=1)
    mean = run_rounds(plain, drifting(capacities), capacities, start, rounds=1)
    for name, share in {"front": 1.0, "one": 1.0, "two": 0.5, "three": 0.25}.items():
        old, new = start[name].numpy(), gentle[name].numpy()
        np.testing.assert_allclose(new - old, share * (mean[name].numpy() - old), atol=1e-6)


def test_own_strategy_refuses_an_option_out_of_range(installed):
    installed(EXAMPLES / "own-strategy")
    with pytest.raises(SettingsError, match="decay: found 3"):
        build("decay=3")


@pytest.fixture
def kaldi(tmp_path, monkeypatch) -> Path:
    """A Kaldi data folder with two speakers to train on and one to test on."""
    folder = tmp_path / "data"
    for half, speakers in (("train", ["anna", "ben"]), ("test", ["cleo"])):
        (folder / half).mkdir(parents=True)
        files = {f"{speaker}-1": speaker for speaker in speakers}
        for utterance in files:
            soundfile.write(folder / half / f"{utterance}.wav", tone(1.0), 16_000)
        tables = {
            "wav.scp": [f"{utterance} {utterance}.wav" for utterance in files],
            "text": [f"{utterance} turn the light on" for utterance in files],
            "utt2spk": [f"{utterance} {speaker}" for utterance, speaker in files.items()],
        }
        for name, lines in tables.items():
            (folder / half / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("KALDI_DATA", str(folder))
    corpus.load.cache_clear()
    return folder


def test_own_corpus_is_found_by_its_name(installed, kaldi):
    installed(EXAMPLES / "own-corpus")
    found = corpus.load("kaldi", "")
    assert found.train["speaker"][:] == ["anna", "ben"] and found.test["speaker"][:] == ["cleo"]
    assert found.train["text"][0] == "turn the light on"
    assert found.train["audio"][0]["path"] == str(kaldi / "train" / "anna-1.wav")


def test_own_corpus_names_what_is_missing(installed, kaldi):
    installed(EXAMPLES / "own-corpus")
    (kaldi / "train" / "text").write_text("anna-1 turn the light on\n")
    with pytest.raises(DataError, match="no text or no speaker for ben-1"):
        corpus.load("kaldi", "")


def test_hub_checkpoint_becomes_a_model_to_start_from(tmp_path, capsys):
    checkpoint, output = tmp_path / "checkpoint", tmp_path / "start"
    write_checkpoint(checkpoint, "wav2vec2", "layer", ctc=True)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(checkpoint)
    script = runpy.run_path(str(EXAMPLES / "hub_checkpoint.py"))
    script["main"]([str(checkpoint), str(output), "--exit-layers", "2,4"])
    assert capsys.readouterr().out.splitlines()[0].startswith("exit 1: 2 layers")
    model, _ = load(output, exit=1)
    assert model.config.num_hidden_layers == 2
    whole = EarlyExitForCTC.from_pretrained(output)
    assert len(AutoTokenizer.from_pretrained(output)) == whole.config.vocab_size


def test_fine_tune_trains_a_saved_model_with_the_trainer_of_transformers(
    model, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    model.save_pretrained(tmp_path / "run" / "model")
    tokenizer.save_pretrained(tmp_path / "run" / "model")
    rows = [(f"{i}.wav", "hello there", "x", 1.0 + i / 10) for i in range(3)]
    data = write_folder(tmp_path / "data", rows)
    script = runpy.run_path(str(EXAMPLES / "fine_tune.py"))
    output = tmp_path / "tuned"
    script["main"]([str(tmp_path / "run"), str(output), "--data", str(data), "--steps", "2"])
    tuned, _ = load(output)
    assert not torch.equal(tuned.exits["1"].projection.bias, model.exits["1"].projection.bias)
    assert "How these weights were trained is not recorded" in (output / "README.md").read_text()


def test_the_sweep_plans_what_its_text_says(tmp_path):
    runs = sweep.plan(EXAMPLES / "sweep.toml", tmp_path, {})
    assert len(runs) == 8 and {run.nodes for run in runs} == {6}
    rounds = {run.method: run.config["rounds"] for run in runs}
    assert rounds == {"hetero": 8, "exclusive": 24}
    assert {run.config["lr"] for run in runs} == {0.001, 0.003}


@pytest.mark.slow  # minutes; tests/deployment runs what the script starts, and more
def test_two_devices_at_home_train_one_model(tmp_path):
    speech = device_folders(tmp_path / "speech", ["kitchen", "car"], utterances=12)
    folder = tmp_path / "home"
    path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
    with (tmp_path / "output").open("w") as output:
        script = subprocess.Popen(
            [EXAMPLES / "two-devices.sh", speech["kitchen"], speech["car"]],
            env={**os.environ, "PATH": path, "FOLDER": str(folder), "ROUNDS": "1"},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = script.wait(timeout=700)
        finally:
            stop_family(script)
    said = (tmp_path / "output").read_text()
    assert status == 0, said
    assert said.splitlines()[-1] == f"run folder: {folder / 'run'}"
    [record] = [json.loads(s) for s in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert record["capacities"] == {"kitchen": 1, "car": 3}
    assert record["answered"] == 2 and record["trainers-per-exit"] == [2, 1, 1]
    assert EarlyExitForCTC.from_pretrained(folder / "run" / "model").config.num_exits == 3
