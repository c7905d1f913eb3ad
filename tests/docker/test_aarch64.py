"""The dependencies resolve for a Raspberry Pi's processor, and a training step runs under qemu.

``pytest -m slow tests/docker`` downloads an arm64 Python from Debian and 5 GB of wheels.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
PLATFORM = ["--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:"]
# Debian's packages that a Python of another architecture needs.
PACKAGES = ["python3.11", "libpython3.11", "libstdc++6", "libgomp1"]
STEP = """
import json, platform
import torch
from efmodel import EarlyExitForCTC
from efmodel.config import preset

torch.manual_seed(0)
model = EarlyExitForCTC(preset("tiny", vocab_size=30, pad_token_id=0).cut(1)).eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
speech, labels = torch.randn(2, 16_000), torch.tensor([[4, 5, 6], [7, 8, 9]])
losses = []
for _ in range(2):
    loss = model(speech, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
print(json.dumps([platform.machine(), losses]))
"""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("overrides", [[], ["--overrides", str(ROOT / "docker/without-torch.txt")]])
def test_every_dependency_has_a_wheel_for_aarch64(tmp_path, python, overrides):
    resolution = tmp_path / "resolved.txt"
    command = [UV, "pip", "compile", "--no-python-downloads", *PLATFORM]
    command += ["--python-version", python, *overrides]
    done = subprocess.run(
        [*command, ROOT / "pyproject.toml", "-o", resolution], capture_output=True, text=True
    )
    if done.returncode and "dns error" in done.stderr:
        pytest.skip("no package registry")
    assert done.returncode == 0, done.stderr
    resolved = {line.split("==")[0] for line in resolution.read_text().splitlines() if "==" in line}
    assert {"flwr", "transformers", "soundfile", "ray"} <= resolved
    assert ("torch" in resolved) == (not overrides)


def test_a_training_step_runs_and_is_what_it_is_here(tmp_path):
    if not shutil.which("apt-get"):
        pytest.skip("no Debian")
    qemu, root = arm64(tmp_path)
    site = tmp_path / "site"
    install = [UV, "pip", "install", "--target", site, *PLATFORM, "--python-version", "3.11"]
    subprocess.run([*install, "-r", ROOT / "pyproject.toml"], check=True, capture_output=True)
    there = [qemu, "-L", root, root / "usr/bin/python3.11", "-c", STEP]
    machine, losses = step(there, PYTHONPATH=f"{site}:{ROOT}")
    _, wanted = step([sys.executable, "-c", STEP], PYTHONPATH=str(ROOT))
    assert machine == "aarch64"
    assert losses == pytest.approx(wanted, rel=1e-3) and losses[1] < losses[0]


def step(command: list[object], **environment: str) -> tuple[str, list[float]]:
    """Run two training steps; return the processor and the losses."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    machine, losses = json.loads(done.stdout.splitlines()[-1])
    return machine, losses


def arm64(folder: Path) -> tuple[Path, Path]:
    """Unpack qemu-user and an arm64 root with Python; return both. Nothing is installed."""
    native, foreign = folder / "native", folder / "foreign"
    for apt in (native, foreign):
        (apt / "lists/partial").mkdir(parents=True)
        (apt / "cache/archives/partial").mkdir(parents=True)
    fetch(native, ["qemu-user-static"])
    fetch(foreign, PACKAGES, "APT::Architecture=arm64", "APT::Architectures=arm64")
    for apt in (native, foreign):
        for package in apt.glob("cache/archives/*.deb"):
            subprocess.run(["dpkg", "-x", package, apt / "root"], check=True)
    return native / "root/usr/bin/qemu-aarch64-static", foreign / "root"


def fetch(apt: Path, packages: list[str], *options: str) -> None:
    """Download packages and their dependencies; package lists and state stay in ``apt``."""
    state = [f"Dir::State::Lists={apt}/lists", "Dir::State::status=/dev/null"]
    state += [f"Dir::Cache={apt}/cache", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    command = ["apt-get", *(word for option in [*state, *options] for word in ("-o", option))]
    if subprocess.run([*command, "update"], capture_output=True, check=False).returncode:
        pytest.skip("Debian's packages are out of reach")
    download = ["install", "--download-only", "--no-install-recommends", "-y", *packages]
    subprocess.run([*command, *download], check=True, capture_output=True)
