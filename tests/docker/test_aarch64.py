"""The dependencies resolve for a Raspberry Pi's processor; under qemu it trains, and it listens.

``pytest -m slow tests/docker/test_aarch64.py`` downloads an arm64 Python from Debian and 5 GB of
wheels; with ``-k listens`` it does with 60 MB of wheels, with ``-k image`` it builds the listener's
image (root and an engine; it lets the kernel start arm64 programs meanwhile).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from efmodel.decoding.policy import ExitPolicy, confidence
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.stages import run
from efmodel.export import int8
from efmodel.export.onnx import export
from efmodel.model.stages import Engine
from tests.docker.federation import docker
from tests.docker.images import try_to_build
from tests.docker.test_listener import transcribe
from tests.efmodel.export.conftest import random_model
from tests.efmodel.export.test_onnx import voices
from tests.efmodel.export.test_onnx_asr import talkative

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
PLATFORM = ["--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:"]
# Debian's packages that a Python of another architecture needs.
PACKAGES = ["python3.11", "libpython3.11", "libstdc++6", "libgomp1"]
# Of a Raspberry Pi 4. onnxruntime reads it, and crashes on that of an Intel processor.
CPU = """\
processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
# How the kernel tells programs for arm64 (elf.h: 64 bits, little-endian, machine 183).
BINFMT = Path("/proc/sys/fs/binfmt_misc")
ELF = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
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
LISTEN = """
import json, platform, sys
from efmodel import Recogniser

recogniser = Recogniser.from_pretrained(sys.argv[1], "auto")
results = [recogniser.transcribe(file) for file in sys.argv[2:]]
assert "torch" not in sys.modules
print(json.dumps([platform.machine(), [[r.text, r.exits] for r in results]]))
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("overrides", [[], ["--overrides", str(ROOT / "docker/without-torch.txt")]])
def test_every_dependency_has_a_wheel_for_aarch64(tmp_path, version, overrides):
    resolution = tmp_path / "resolved.txt"
    command = [UV, "pip", "compile", "--no-python-downloads", *PLATFORM]
    command += ["--python-version", version, *overrides]
    done = subprocess.run(
        [*command, ROOT / "pyproject.toml", "-o", resolution], capture_output=True, text=True
    )
    if done.returncode and "dns error" in done.stderr:
        pytest.skip("no package registry")
    assert done.returncode == 0, done.stderr
    resolved = {line.split("==")[0] for line in resolution.read_text().splitlines() if "==" in line}
    assert {"flwr", "transformers", "soundfile", "ray"} <= resolved
    assert ("torch" in resolved) == (not overrides)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> list[Path | str]:
    """The command that starts an arm64 Python under qemu."""
    if not shutil.which("apt-get"):
        pytest.skip("no Debian")
    qemu, root = arm64(tmp_path_factory.mktemp("arm64"))
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(CPU)
    return [qemu, "-cpu", "cortex-a72", "-L", root, root / "usr/bin/python3.11"]


def installed(site: Path, requirements: Path) -> str:
    """Install wheels for arm64 into a folder; return the path on which Python finds them and us."""
    install = [UV, "pip", "install", "--target", site, *PLATFORM, "--python-version", "3.11"]
    subprocess.run([*install, "-r", requirements], check=True, capture_output=True)
    return f"{site}:{ROOT}"


def test_a_training_step_runs_and_is_what_it_is_here(python, tmp_path):
    path = installed(tmp_path / "site", ROOT / "pyproject.toml")
    machine, losses = step([*python, "-c", STEP], PYTHONPATH=path)
    _, wanted = step([sys.executable, "-c", STEP], PYTHONPATH=str(ROOT))
    assert machine == "aarch64"
    assert losses == pytest.approx(wanted, rel=1e-3) and losses[1] < losses[0]


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_it_listens_and_hears_what_is_heard_here(python, tokenizer, tmp_path, weights):
    speech = voices(0.7, 2.2, 1.3, 3.1)
    files = [str(tmp_path / f"{number}.wav") for number in range(len(speech))]
    for file, samples in zip(files, speech, strict=True):
        soundfile.write(file, samples, 16_000)
    network = talkative(random_model(hidden_size=64))
    first = run(Engine(network.cut(1)), speech, ExitPolicy())
    middle = float(np.median([confidence([output]) for _, output in first]))
    network.config.exit_thresholds = {"confidence": [middle, 0.0]}
    model = tmp_path / "exported"
    export(network, tokenizer, model)
    if weights == "int8":
        int8.quantise(model)
    path = installed(tmp_path / "site", ROOT / "docker" / "listener.txt")
    done = subprocess.run(
        list(map(str, [*python, "-c", LISTEN, model, *files])), capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    machine, found = json.loads(done.stdout.splitlines()[-1])
    recogniser = Recogniser.from_pretrained(model, "auto")
    wanted = [[r.text, r.exits] for r in map(recogniser.transcribe, files)]
    assert machine == "aarch64"
    assert all(text for text, _ in wanted) and len({exits[0] for _, exits in wanted}) > 1
    assert found == wanted


@pytest.fixture
def emulated(tmp_path):
    """Let this machine's kernel start arm64 programs, also in containers."""
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("no root on Debian")
    if not (BINFMT / "register").exists():
        mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a kernel without binfmt_misc")
    entry = BINFMT / "ef-asr-test-aarch64"
    (BINFMT / "register").write_text(f":{entry.name}:M::{ELF}:{MASK}:{qemu(tmp_path)}:F")
    yield
    entry.write_text("-1")


@pytest.mark.docker
@pytest.mark.timeout(3600)
def test_the_listener_s_image_is_built_and_transcribes(listener, emulated, tmp_path):
    base, image = "ef-asr-test-python-arm64", "ef-asr-test-listener-arm64"
    variables = {"ARCH": "arm64", "PYTHON": base, "NGINX": ""}
    script = ROOT / "tests/docker/base_images.sh"
    subprocess.run([script], check=True, env={**os.environ, **variables})
    options = ["--build-arg", f"BASE={base}", "--tag", image]
    done = try_to_build("listener", "", ROOT, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    architecture = ["run", "--rm", "--entrypoint", "uname", image, "-m"]
    assert docker(*architecture).strip() == "aarch64"
    print(docker("image", "ls", image))
    (tmp_path / "cpuinfo").write_text(CPU)
    heard, wanted = transcribe(image, tmp_path, "--volume", f"{tmp_path}/cpuinfo:/proc/cpuinfo:ro")
    assert heard == wanted == "b"


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
    root = unpack(folder / "foreign", PACKAGES, "APT::Architecture=arm64",
                  "APT::Architectures=arm64")  # fmt: skip
    return qemu(folder), root


def qemu(folder: Path) -> Path:
    """Unpack the program that runs arm64 programs, and return it."""
    return unpack(folder / "native", ["qemu-user-static"]) / "usr/bin/qemu-aarch64-static"


def unpack(apt: Path, packages: list[str], *options: str) -> Path:
    """Download packages with their dependencies, and return the folder that they are unpacked to.

    Package lists and state stay in ``apt``.
    """
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    state = [f"Dir::State::Lists={apt}/lists", "Dir::State::status=/dev/null"]
    state += [f"Dir::Cache={apt}/cache", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    command = ["apt-get", *(word for option in [*state, *options] for word in ("-o", option))]
    if subprocess.run([*command, "update"], capture_output=True, check=False).returncode:
        pytest.skip("Debian's packages are out of reach")
    download = ["install", "--download-only", "--no-install-recommends", "-y", *packages]
    subprocess.run([*command, *download], check=True, capture_output=True)
    for package in apt.glob("cache/archives/*.deb"):
        subprocess.run(["dpkg", "-x", package, apt / "root"], check=True)
    return apt / "root"
