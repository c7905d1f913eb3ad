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


def layers(target: str) -> list[str]:
    found = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", f"ef-asr-{target}")
    return list(json.loads(found))


def names(image: str) -> set[str]:
    """Return the names of the packages and programs in an image."""
    look = "ls /opt/ef-asr/lib/python3*/site-packages /usr/bin"
    return {*docker("run", "--rm", "--entrypoint", "sh", image, "-c", look).split()}


def test_sizes_and_no_image_holds_build_tools_or_a_simulator_or_runs_as_root():
    for target in TARGETS:
        image = f"ef-asr-{target}"
        print(f"{image}: {size_mb(image):.0f} MB")
        (settings,) = json.loads(docker("image", "inspect", image))
        assert settings["Config"]["User"] == "ef-asr"
        found = names(image)
        assert "efmodel" in found and not {"gcc", "ray", "triton", "hatchling"} & found
    assert size_mb("ef-asr-listener") < 400


def test_a_server_accounts_for_noise_and_a_device_has_nothing_for_it():
    script = "from server_app.accountant import *; print(epsilon({release(1): 10}, 1e-5))"
    epsilon = docker("run", "--rm", "ef-asr-superlink", "python", "-c", script)
    assert float(epsilon) == pytest.approx(19.05, abs=0.01)
    assert "scipy" not in names("ef-asr-supernode")


@pytest.mark.parametrize("target", ["superlink", "supernode"])
def test_a_change_of_code_leaves_the_layers_of_dependencies_as_they_are(tmp_path, target):
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("efmodel", "client_app", "server_app", "simulation", "docker"):
        shutil.copytree(ROOT / name, tmp_path / name)
    changed = tmp_path / "client_app" / "__init__.py"
    changed.write_text(changed.read_text() + f"# {secrets.token_hex(8)}\n")
    old, began = layers(target), time.monotonic()
    build(target, context=tmp_path)
    print(f"{target} built again after a change of code: {time.monotonic() - began:.0f} s")
    code = 3 if target == "supernode" else 4  # after Debian, the user, torch, and scipy
    new = layers(target)
    assert old[:code] == new[:code] and old[code] != new[code]
    build(target)


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
