"""The environment variables of a run's own processes: offline, on loopback, with their own Ray."""

import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from efmodel.errors import UserError

# Keep a run off the network: no telemetry, no update check, no installation of torch for each run.
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

# Start faster.
PRELOAD = "RAY_preload_python_modules"
FAST_START = {
    # Ray starts no idle workers beside the actors: they took 2 s of CPU time in all.
    "RAY_prestart_worker_first_driver": "0",
    # The actors import torch while the server app does, not when the first message comes.
    PRELOAD: "simulation.preload",
}

LOOPBACK = "localhost,127.0.0.1,::1"
SHORT = "/tmp"  # a folder for Ray where TMPDIR is too long
# Linux allows 107 bytes for a socket's path; Ray's own part of it is about 70.
SOCKET_PATH = 107
RAY_SECONDS = 5  # for the Ray of RAY_ADDRESS to answer
IN_RAY = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"


def environment(home: Path, ray: Path, preload: bool) -> dict[str, str]:
    """Return the environment variables of the processes of a run.

    Parameters
    ----------
    home : Path
        The run's FLWR_HOME.
    ray : Path
        Where its Ray keeps its files, see ``ray_folder``.
    preload : bool
        Whether Ray's workers import the client app as they start.

    Raises
    ------
    UserError
        If no Ray answers where RAY_ADDRESS says.
    """
    variables = {**FAST_START, **os.environ, **OFFLINE, **proxies(os.environ)}
    if not preload:
        variables.pop(PRELOAD, None)
    for name in unusable_proxies(variables):
        del variables[name]
    programs = str(Path(sys.executable).parent)  # Flower starts its programs by name
    variables["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    variables["FLWR_HOME"] = str(home)
    if address := os.environ.get("RAY_ADDRESS"):
        check_ray(address)
    else:  # Ray would join one that happens to run here, or fail to join one that has died
        variables |= {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(ray)}
    return variables


def proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a run talks to itself without a proxy."""
    known = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    exceptions = ",".join(filter(None, [known, LOOPBACK]))
    return {"no_proxy": exceptions, "NO_PROXY": exceptions}


def unusable_proxies(variables: Mapping[str, str]) -> list[str]:
    """Return the variables that name SOCKS proxies, if what it takes to use one is not installed.

    httpx refuses to work at all then, even for addresses that need no proxy.
    """
    if importlib.util.find_spec("socksio"):
        return []
    return [
        name
        for name, value in variables.items()
        if name.lower().endswith("_proxy") and value.lower().startswith("socks")
    ]


def ray_folder(home: Path) -> Path:
    """Return an own folder for Ray's files: a short one where RAY_TMPDIR or TMPDIR is too long.

    Parameters
    ----------
    home : Path
        The run's FLWR_HOME, below TMPDIR; Ray's files go there, too, if nothing speaks against it.
    """
    parent = Path(os.environ.get("RAY_TMPDIR") or home.parent)
    if len(os.fsencode(parent / home.name / IN_RAY)) > SOCKET_PATH:
        parent = Path(SHORT)
    return home if parent == home.parent else Path(tempfile.mkdtemp(prefix="ef-asr-", dir=parent))


def check_ray(address: str) -> None:
    """Check that a Ray answers where RAY_ADDRESS says; the run would wait for it for minutes.

    Raises
    ------
    UserError
        If none does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdigit()):  # "local" or "auto"
        return
    try:
        socket.create_connection((host, int(port)), RAY_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"RAY_ADDRESS: found {address}, where no Ray answers ({error}), wanted a running one, "
            "or none: then the run starts its own"
        ) from None
