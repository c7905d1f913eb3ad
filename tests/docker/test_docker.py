"""Files, flags, names and versions in docker/ agree; no Docker engine is needed.

tests/deployment starts all its programs with the scripts of this folder.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = {path.name: yaml.safe_load(path.read_text()) for path in DOCKER.glob("*.yml")}
SCRIPTS = sorted(DOCKER.glob("*.sh"))
SERVICES = [(file, name) for file, content in COMPOSE.items() for name in content["services"]]


def service(file: str, name: str) -> dict:
    """Return a service merged with the one that it extends, as compose does."""
    this = COMPOSE[file]["services"][name]
    if "extends" not in this:
        return this
    base = service(this["extends"]["file"], this["extends"]["service"])
    environment = {**base.get("environment", {}), **this.get("environment", {})}
    by_target = {volume.split(":")[-1 if volume.count(":") == 1 else -2]: volume
                 for volume in [*base.get("volumes", []), *this.get("volumes", [])]}  # fmt: skip
    return {**base, **this, "environment": environment, "volumes": list(by_target.values())}


@pytest.mark.programs
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_flag_is_one_that_the_program_has(script):
    command = script.read_text().split("\nexec ")[1].replace("\\\n", " ").split()
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], "--help"], capture_output=True, text=True
    )
    flags = {word for word in command if word.startswith("--")}
    assert flags and flags <= set(re.findall(r"--[a-z-]+", done.stdout))


def test_tls_and_keys_are_what_one_gets_without_asking():
    texts = {path: path.read_text() for path in DOCKER.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if "--insecure" in text]
    assert "--enable-supernode-auth" in texts[DOCKER / "superlink.sh"]
    assert "--ssl-certfile" in texts[DOCKER / "superlink.sh"]
    assert "--superexec-auth-secret-file" in texts[DOCKER / "superlink.sh"]
    for script in ("superexec.sh", "supernode.sh"):
        assert "--root-certificates" in texts[DOCKER / script]
    assert "--auth-supernode-private-key" in texts[DOCKER / "supernode.sh"]


def test_every_file_that_an_image_takes_is_there_and_not_ignored():
    taken = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert taken
    for source in taken:
        assert list(ROOT.glob(source)), source
        assert "!" + source.split("/")[0] in ignored, source
    wheel = re.search(r"packages = \[(.+)\]", (ROOT / "pyproject.toml").read_text())
    assert set(re.findall(r'"(\w+)"', wheel[1])) <= set(taken)


def test_the_image_is_of_a_python_that_the_project_takes_and_not_root_s():
    version = re.search(r"python:(\d+\.\d+)-", DOCKERFILE)[1]
    low, high = re.search(r'requires-python = ">=([\d.]+),<([\d.]+)"',
                          (ROOT / "pyproject.toml").read_text()).groups()  # fmt: skip
    parts = [tuple(map(int, text.split("."))) for text in (low, version, high)]
    assert parts[0] <= parts[1] < parts[2]
    assert re.search(r"^USER ef-asr$", DOCKERFILE, re.MULTILINE)
    assert (
        COMPOSE["compose.node.yml"]["services"]["supernode"]["build"]["args"]["BASE"]
        == f"${{BASE:-python:{version}-slim-bookworm}}"
    )


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_service_has_all_that_its_script_reads(file, name):
    merged = service(file, name)
    if name == "gate":
        return
    image_has = set(re.findall(r"\b([A-Z_]+)=", DOCKERFILE))
    target = merged["build"]["target"]
    script = merged.get(
        "command", re.findall(r'CMD \["(\w+\.sh)"\]', DOCKERFILE)[target != "superlink"]
    )
    script = script if isinstance(script, str) else script[0]
    read = set(re.findall(r"\$([A-Z_]+)", (DOCKER / script).read_text()))
    assert read <= image_has | merged.get("environment", {}).keys(), name
    targets = [
        re.search(r"(?<!\$\{KEYS):(/[\w/-]+)(:ro)?$", volume)[1] for volume in merged["volumes"]
    ]
    assert {"/keys", "/state"} <= set(targets)


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_service_restarts_logs_within_bounds_and_its_volumes_are_declared(file, name):
    merged = service(file, name)
    assert merged["restart"] == "unless-stopped" and merged["logging"]["options"]["max-size"]
    if name != "gate":
        assert merged["read_only"] and merged["cap_drop"] == ["ALL"]
    declared = COMPOSE[file].get("volumes", {})
    named = [volume.split(":")[0] for volume in merged["volumes"] if re.match(r"^[a-z]", volume)]
    assert set(named) <= set(declared), name


def test_compose_reads_the_files():
    """Docker Compose reads them without an engine."""
    command = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no docker compose")
    settings = {"KEYS": "/k", "RUNS": "/r", "DATA": "/d", "TEST_DATA": "/t", "NAME": "n"}
    for file in COMPOSE:
        done = subprocess.run(
            ["docker", "compose", "-f", str(DOCKER / file), "config", "--quiet"],
            env={**os.environ, **settings, "SUPERLINK": "s:8000"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_reads_the_units(tmp_path):
    for unit in (DOCKER / "systemd").glob("*.service"):
        text = unit.read_text().replace("/opt/ef-asr/bin/superlink", f"{DOCKER}/superlink")
        text = text.replace("ExecStart=/opt/ef-asr/bin", f"ExecStart={DOCKER}")
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.glob("*.service")))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert done.returncode == 0 and "ef-asr" not in done.stderr, done.stderr


def test_a_unit_s_script_finds_its_variables():
    for unit in (DOCKER / "systemd").glob("*.service"):
        text = unit.read_text()
        script = DOCKER / re.search(r"ExecStart=/opt/ef-asr/bin/(\S+)", text)[1]
        read = set(re.findall(r"\$([A-Z_]+)", script.read_text()))
        given = set(re.findall(r"\b([A-Z_]+)=", text))
        if "EnvironmentFile" in text:
            given |= {"SUPERLINK", "NAME", "DATA"}
        assert read <= given, unit.name
