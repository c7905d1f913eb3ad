"""The images are built: what is in them, how large they are, and what they leave out.

Run with ``pytest -m docker``: 10 minutes for the first build, most of it torch; then 3.
"""

import json
import secrets
import shutil
import time

import pytest

from tests.docker.federation import docker
from tests.docker.images import ROOT, TARGETS, build

pytestmark = [
    pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("images"),
    pytest.mark.timeout(3600),
]  # fmt: skip


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
    new = layers(target)
    code = -2  # the layers of EF-ASR and of its scripts are the last
    assert old[:code] == new[:code] and old[code] != new[code]
    build(target)
