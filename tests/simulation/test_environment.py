"""The environment of a run's own processes, on machines as they are."""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from efmodel.errors import UserError
from simulation import environment
from simulation.environment import IN_RAY, check_ray, ray_folder


@pytest.fixture
def loopback():
    """Return the address of a server on loopback that answers 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def variables_of(home: Path, **changes: str) -> dict[str, str]:
    """Return the variables of a run, in an environment with these changes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in changes.items():
            patch.setenv(name, value)
        return environment.environment(home, home, preload=True)


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": "example.org"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "SOCKS5h://127.0.0.1:9", "NO_PROXY": "example.org"},
    ],
    ids=str,
)
def test_a_run_talks_to_itself_without_a_proxy(tmp_path, monkeypatch, loopback, proxies):
    variables = variables_of(tmp_path, **proxies)
    assert "example.org" in variables["NO_PROXY"] or "example.org" not in proxies.values()
    monkeypatch.setattr(os, "environ", variables)
    assert httpx.get(loopback).status_code == 200  # as Flower's own client asks


def test_a_proxy_is_kept_for_addresses_elsewhere(tmp_path):
    """A server app may load a model from the Hub."""
    assert variables_of(tmp_path, HTTPS_PROXY="http://proxy:1")["HTTPS_PROXY"] == "http://proxy:1"


def test_a_run_starts_a_ray_of_its_own(tmp_path):
    variables = variables_of(tmp_path)
    assert (variables["RAY_ADDRESS"], variables["RAY_TMPDIR"]) == ("local", str(tmp_path))


def test_a_ray_that_is_asked_for_must_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as ray:
        address = f"127.0.0.1:{ray.getsockname()[1]}"
        variables = variables_of(tmp_path, RAY_ADDRESS=address)
        assert variables["RAY_ADDRESS"] == address and "RAY_TMPDIR" not in variables
    for gone in (address, f"ray://{address}"):
        with pytest.raises(UserError, match=f"RAY_ADDRESS: found {gone}, where no Ray answers"):
            check_ray(gone)
    check_ray("auto")


@pytest.mark.parametrize("length", [10, 85, 200])
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_rays_sockets_have_short_paths_whatever_the_temporary_folder(
    tmp_path, monkeypatch, variable, length
):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("x" * length)
    home = (long if variable == "TMPDIR" else tmp_path) / "ef-asr-12345678"
    home.mkdir(parents=True)
    if variable == "RAY_TMPDIR":
        long.mkdir()
        monkeypatch.setenv(variable, str(long))
    folder = ray_folder(home)
    path = folder / IN_RAY
    try:
        path.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))  # OSError: AF_UNIX path too long
    finally:
        for made in [path, *path.parents[: len(Path(IN_RAY).parts)]]:
            made.unlink() if made.is_socket() else made.rmdir()
