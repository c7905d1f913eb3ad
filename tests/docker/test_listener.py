"""The image that recognises speech without torch is small, keeps no secret, and transcribes.

Run with ``pytest -m 'docker and not slow'``: 4 minutes where there is no base image yet.
"""

import secrets
import subprocess
from pathlib import Path

import pytest
import soundfile

from efmodel import Recogniser
from efmodel.export.onnx import export
from efmodel.model.loading import load
from tests.conftest import tone, write_abc
from tests.docker.federation import docker
from tests.docker.images import build

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("listener")]


def test_it_is_small():
    assert int(docker("image", "inspect", "--format", "{{.Size}}", "ef-asr-listener")) < 400e6


def test_settings_of_package_registries_stand_in_no_image():
    marker = secrets.token_hex(16)
    build("listener", "--no-cache-filter", "listener", marker=f"export MARKER={marker}\n")
    saved = subprocess.Popen(["docker", "save", "ef-asr-listener"], stdout=subprocess.PIPE)
    counted = subprocess.run(["grep", "-c", "-e", marker, "-e", "/run/secrets/ca"],
                             stdin=saved.stdout, capture_output=True, text=True)  # fmt: skip
    assert saved.wait() == 0 and int(counted.stdout) == 0


def test_it_transcribes_as_torch_does_here(tmp_path):
    heard, wanted = transcribe("ef-asr-listener", tmp_path)
    assert heard == wanted == "b"


def transcribe(image: str, folder: Path, *options: str) -> tuple[str, str]:
    """Return what an image hears in a tone, and what torch hears in it."""
    model = write_abc(folder / "model")
    export(*load(model, None), folder / "exported")
    soundfile.write(folder / "tone.flac", tone(2.0), 16_000)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    printed = docker(
        "run", "--rm", "--read-only", "--network", "none", "--volume", f"{folder}:/data:ro",
        *options, image, "transcribe", "tone.flac", "--model", "exported", "--exit", "2",
    )  # fmt: skip
    wanted = Recogniser.from_pretrained(model, exit=2).transcribe(folder / "tone.flac").text
    return printed.split()[0], wanted  # what follows is standard error
