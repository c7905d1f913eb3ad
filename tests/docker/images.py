"""The images of docker/Dockerfile, built with this machine's settings of package registries."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ["superlink", "supernode", "listener"]
BASES = ["python:3.11-slim-bookworm", "nginx:1.28-alpine"]
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Torch for the CPU has an index of its own; where only PyPI is in reach, much of CUDA comes along.
TORCH = ["--torch-backend cpu", "--overrides docker/without-cuda.txt"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it prints."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def registry_settings() -> str:
    """Return this machine's settings of pip and uv as shell variables."""
    names = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]
    names += ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
    settings = {name: os.environ[name] for name in names if name in os.environ}
    index = run("python3", "-m", "pip", "config", "get", "global.index-url").stdout.strip()
    if index:
        settings = {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index, **settings}
    if BUNDLE.exists():
        settings |= {"SSL_CERT_FILE": "/run/secrets/ca", "PIP_CERT": "/run/secrets/ca"}
    return "".join(f"export {name}='{value}'\n" for name, value in settings.items())


def build(target: str, *options: str, marker: str = "", context: Path = ROOT) -> None:
    """Build a target and tag it ``ef-asr-TARGET``; ``marker`` is one more line of the secret."""
    if target != "listener":
        options = ("--build-arg", f"TORCH={torch()}", *options)
    done = try_to_build(target, marker, context, "--tag", f"ef-asr-{target}", *options)
    assert done.returncode == 0, done.stderr[-3000:]


@cache
def torch() -> str:
    """Return the first argument TORCH that this machine can build the dependencies with."""
    arguments = [os.environ["TORCH"]] if "TORCH" in os.environ else TORCH
    for argument in arguments:
        done = try_to_build("dependencies", "", ROOT, "--build-arg", f"TORCH={argument}")
        if done.returncode == 0:
            return argument
    raise AssertionError(done.stderr[-3000:])


def try_to_build(
    target: str, marker: str = "", context: Path = ROOT, *options: str
) -> subprocess.CompletedProcess[str]:
    """Build a target."""
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(registry_settings() + marker)
        secret.flush()
        return run(
            "docker", "build", "--file", context / "docker/Dockerfile", "--target", target,
            "--secret", f"id=registry,src={secret.name}", "--secret", f"id=ca,src={BUNDLE}",
            *options, context,
        )  # fmt: skip


@cache
def get_bases() -> None:
    """Pull the base images or make them of Debian's packages; skip the test where nothing works."""
    if not shutil.which("docker") or run("docker", "info").returncode:
        pytest.skip("no Docker engine")
    for plugin in ("compose", "buildx"):
        if run("docker", plugin, "version").returncode:
            pytest.skip(f"no docker {plugin} (tests/docker/plugins.sh unpacks Debian's)")
    if any(run("docker", "image", "inspect", base).returncode for base in BASES):
        if any(run("docker", "pull", base).returncode for base in BASES):
            made = run(ROOT / "tests/docker/base_images.sh")
            if made.returncode:
                pytest.skip(f"no image registry, and base_images.sh says: {made.stderr[-300:]}")
    tools = try_to_build("tools")
    if tools.returncode:
        pytest.skip(f"no package registry: {tools.stderr[-300:]}")


@cache
def build_listener() -> None:
    """Build the image of the listener, which needs no torch."""
    get_bases()
    build("listener")


@cache
def build_all() -> None:
    """Build every image once."""
    get_bases()
    for target in TARGETS:
        build(target)
