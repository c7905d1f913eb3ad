"""The images are built: what is in them, how large they are, and what they leave out.

Run with ``pytest -m docker``: 10 minutes for the first build, most of it torch; then 3.
"""

import json
import secrets
import shutil
import subprocess
import time

import pytest
import soundfile

from efmodel import Recogniser
from efmodel.export.onnx import export
from efmodel.model.loading import load
from tests.conftest import tone, write_abc
from tests.docker.federation import docker
from tests.docker.images import ROOT, TARGETS, build

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images"), pytest.mark.timeout(3600)]


def size_mb(image: str) -> float:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def test_sizes_and_no_image_holds_build_tools_or_a_simulator_or_runs_as_root():
    for target in TARGETS:
        image = f"ef-asr-{target}"
        print(f"{image}: {size_mb(image):.0f} MB")
        (settings,) = json.loads(docker("image", "inspect", image))
        assert settings["Config"]["User"] == "ef-asr"
        look = "ls /opt/ef-asr/lib/python3*/site-packages /usr/bin"
        names = docker("run", "--rm", "--entrypoint", "sh", image, "-c", look).split()
        assert "efmodel" in names and not {"gcc", "ray", "triton", "hatchling"} & {*names}
    assert size_mb("ef-asr-listener") < 400


def test_a_change_of_code_leaves_the_layer_of_torch_as_it_is(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("efmodel", "client_app", "server_app", "simulation", "docker"):
        shutil.copytree(ROOT / name, tmp_path / name)
    changed = tmp_path / "client_app" / "__init__.py"
    changed.write_text(changed.read_text() + f"# {secrets.token_hex(8)}\n")
    began = time.monotonic()
    build("supernode", "--tag", "ef-asr-test-changed", context=tmp_path)
    print(f"built again after a change of code: {time.monotonic() - began:.0f} s")
    old, new = (
        json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image))
        for image in ("ef-asr-superlink", "ef-asr-test-changed")
    )
    assert old != new and [*zip(old, new, strict=True)][2][0] == new[2]
    docker("image", "rm", "ef-asr-test-changed")
    build("supernode")


def test_settings_of_package_registries_stand_in_no_image():
    marker = secrets.token_hex(16)
    build("listener", "--no-cache-filter", "listener", marker=f"export MARKER={marker}\n")
    saved = subprocess.Popen(["docker", "save", "ef-asr-listener"], stdout=subprocess.PIPE)
    counted = subprocess.run(["grep", "-c", "-e", marker, "-e", "/run/secrets/ca"],
                             stdin=saved.stdout, capture_output=True, text=True)  # fmt: skip
    assert saved.wait() == 0 and int(counted.stdout) == 0


def test_a_listener_transcribes_as_torch_does_here(tmp_path):
    model = write_abc(tmp_path / "model")
    export(*load(model, None), tmp_path / "exported")
    soundfile.write(tmp_path / "tone.flac", tone(2.0), 16_000)
    subprocess.run(["chmod", "-R", "a+rX", tmp_path], check=True)
    printed = docker(
        "run", "--rm", "--read-only", "--network", "none", "--volume", f"{tmp_path}:/data:ro",
        "ef-asr-listener", "transcribe", "tone.flac", "--model", "exported", "--exit", "2",
    )  # fmt: skip
    assert Recogniser.from_pretrained(model, exit=2).transcribe(tmp_path / "tone.flac").text == "b"
    assert printed.split()[0] == "b"  # what follows is standard error
