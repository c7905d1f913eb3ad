"""A device that only listens: an environment of five packages, which says what torch says."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.decoding.observing import observe
from efmodel.decoding.recogniser import Recogniser
from efmodel.export import int8
from efmodel.export.onnx import export, voice
from efmodel.model.stages import Engine
from efmodel.speech.utterances import prepare
from simulation.speech import sample
from tests.efmodel.export.test_onnx_asr import talkative

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / "docker" / "listener.txt"
UV = Path(sys.executable).parent / "uv"
PEAK = """
import sys
from efmodel import Recogniser
recogniser = Recogniser.from_pretrained(sys.argv[1])
assert recogniser.transcribe(sys.argv[2]).seconds == 30.0
assert not {"torch", "transformers"} & set(sys.modules)
lines = open("/proc/self/status").read().splitlines()
print([line.split()[1] for line in lines if line.startswith("VmHWM:")][0])
"""


def test_the_packages_of_a_listener_are_bound_as_the_projects_are():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["onnxruntime"]}
    lines = PACKAGES.read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} <= known


@pytest.fixture(scope="module")
def listener(tmp_path_factory) -> Path:
    """The folder of an environment's programs: it has the packages, and EF-ASR without others."""
    folder = tmp_path_factory.mktemp("listener")
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(wheel, check=True, cwd=ROOT, capture_output=True)
    programs = folder / "environment" / "bin"
    subprocess.run([UV, "venv", "-p", sys.executable, programs.parent], check=True)
    install = [UV, "pip", "install", "-p", programs / "python"]
    done = subprocess.run([*install, "-r", PACKAGES], capture_output=True, text=True)
    if done.returncode and "dns error" in done.stderr:
        pytest.skip("no package registry")
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("*.whl")
    subprocess.run([*install, "--no-deps", "--offline", file], check=True)
    return programs


def on_the_device(command: list[object]) -> str:
    """Run a program that must not find this checkout's packages; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True,
        env={**environment, "OMP_NUM_THREADS": "1"}, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.programs
def test_the_samples_test_half_has_the_words_and_exits_of_torch(listener, tokenizer, tmp_path):
    torch.manual_seed(1)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    model = talkative(EarlyExitForCTC(preset("tiny", **sizes)))
    half = sample.load().test
    speech, _ = prepare(half.select(range(20)), tokenizer, model.config, to_train=False)
    scores = observe(Engine(model), tokenizer, speech, ["confidence"], 30.0).scores["confidence"]
    middle = np.median(scores, axis=1)  # between two utterances, for their number is even
    model.config.exit_thresholds = {"confidence": middle[:2].tolist()}
    for folder in ("saved", "exported", "speech"):
        (tmp_path / folder).mkdir()
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    export(model, tokenizer, tmp_path / "exported")
    files = []
    for number, audio in enumerate(half["audio"]):
        files.append(tmp_path / "speech" / f"{number:03}.flac")
        files[-1].write_bytes(audio["bytes"])

    command = [listener / "ef-asr", "transcribe", *files, "--model", tmp_path / "exported"]
    options = ["--exit", "auto", "--format", "json", "--output-dir", tmp_path / "out"]
    on_the_device([*command, *options])
    recogniser = Recogniser.from_pretrained(tmp_path / "saved", "auto")
    wanted = [result for _, result in recogniser.transcribe_all(files)]
    found = [json.loads((tmp_path / "out" / f"{f.stem}.json").read_text()) for f in files]
    assert len(found) == 151 and {result.exit for result in wanted} == {1, 2, 3}
    assert [each["text"] for each in found] == [result.text for result in wanted]
    assert [each["exit"] for each in found] == [result.exit for result in wanted]
    assert len({each["text"] for each in found}) > 100


@pytest.mark.programs
def test_small_with_eight_bits_takes_at_most_250_mb(listener, tokenizer, tmp_path):
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    export(EarlyExitForCTC(preset("small", **sizes)).eval(), tokenizer, tmp_path / "small")
    int8.quantise(tmp_path / "small")
    soundfile.write(tmp_path / "a.wav", voice(30.0, np.random.default_rng(0)), 16_000)
    command = [listener / "python", "-c", PEAK, tmp_path / "small", tmp_path / "a.wav"]
    assert int(on_the_device(command)) * 1024 <= 250e6
