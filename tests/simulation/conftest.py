"""Fixtures of the simulation tests: a small corpus, and the example plug-in, installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from efmodel.speech import corpus, recordings

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> Path:
    """Return a folder with two utterances of four training and one test speaker of the sample."""
    sample = corpus.load("sample", "")
    root = tmp_path_factory.mktemp("speech")
    for half, voices in (("train", 4), ("test", 1)):
        dataset = getattr(sample, half)
        chosen = recordings.speakers(dataset)[:voices]
        (root / half).mkdir()
        with (root / half / "metadata.jsonl").open("w") as metadata:
            for speaker in chosen:
                numbers = [i for i, s in enumerate(dataset["speaker"]) if s == speaker][:2]
                for row in dataset.select(numbers):
                    name = row["audio"]["path"]
                    (root / half / name).write_bytes(row["audio"]["bytes"])
                    line = {"file_name": name, "text": row["text"], "speaker": speaker}
                    metadata.write(json.dumps(line) + "\n")
    return root


@pytest.fixture(scope="session")
def plugin(tmp_path_factory) -> Path:
    """Install the example plug-in into a folder, and return the folder."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", str(folder), str(PLUGIN)], check=True,
    )  # fmt: skip
    return folder
