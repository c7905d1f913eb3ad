"""Shared fixtures: a very small model, its tokenizer, a folder of real audio files."""

import json
import shutil
from collections import Counter
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch

from efmodel import EarlyExitConfig, EarlyExitForCTC
from efmodel.speech import vocabulary

torch.set_num_threads(1)  # the tests' tensors are small: a second thread mostly waits


PROGRAMS = ("programs", "deployment", "docker", "site")  # markers of tests that take long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start the most programs.

    Several files run side by side in .ci/run: if a long one came last, all but one core would wait.
    """
    long = Counter(item.path for item in items if any(map(item.get_closest_marker, PROGRAMS)))
    items.sort(key=lambda item: -long[item.path])


def small_config(**changes) -> EarlyExitConfig:
    sizes = dict(
        frontend="mel",
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=48,
        num_hidden_layers=4,
        exit_layers=[1, 2, 4],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        vocab_size=len(vocabulary.CHARACTERS),
        pad_token_id=0,
    )
    sizes |= {"conv_dim": [24] * 7} if changes.get("frontend") == "waveform" else {}
    return EarlyExitConfig(**{**sizes, **changes})


@pytest.fixture(autouse=True)
def disk(tmp_path, monkeypatch):
    """Give each test its own cache folder; return where nodes keep their files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ef-asr"


@pytest.fixture
def tokenizer():
    return vocabulary.tokenizer_from(vocabulary.CHARACTERS)


@pytest.fixture
def model() -> EarlyExitForCTC:
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config()).eval()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Lay a folder out as the Hub's library keeps what it has downloaded under a name."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def put(name: str, folder: Path) -> None:
        copy = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (copy / "refs").mkdir(parents=True)
        (copy / "refs" / "main").write_text("0" * 40)
        shutil.copytree(folder, copy / "snapshots" / ("0" * 40))

    return put


def write_abc(folder: Path, **changes) -> Path:
    """Save a model that says "a" at exit 1, "b" at exit 2 and "c" at exit 3, whatever it hears."""
    abc = EarlyExitForCTC(small_config(**changes))
    for exit, letter in enumerate("abc", start=1):
        bias = torch.full((len(vocabulary.CHARACTERS),), -100.0)
        bias[vocabulary.CHARACTERS[letter]] = 100.0
        abc.exits[str(exit)].projection.bias.data = bias
    abc.save_pretrained(folder)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(folder)
    return folder


def tone(seconds: float, rate: int = 16_000, pitch: float = 220.0) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * np.sin(997 * time)).astype("float32")


def write_folder(folder: Path, rows: list[tuple[str, str, str, float]]) -> Path:
    """Write ``(file name, text, speaker, seconds)`` rows as an audiofolder of tones."""
    folder.mkdir(parents=True)
    with (folder / "metadata.jsonl").open("w") as metadata:
        for name, words, speaker, seconds in rows:
            soundfile.write(folder / name, tone(seconds), 16_000)
            row = {"file_name": name, "text": words, "speaker": speaker}
            metadata.write(json.dumps(row) + "\n")
    return folder
