"""The gate in front of a SuperLink lets devices through and nobody else.

Run with ``pytest -m deployment``.
"""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.deployment.deployment import DOCKER, Deployment, free_port, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # nginx's temporary folders


def gate(deployment: Deployment, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start nginx with docker/gate.conf, with this test's ports and paths."""
    server = (DOCKER / "gate.conf").read_text()
    server = server.replace("listen 8000", f"listen 127.0.0.1:{port}")
    server = server.replace("superlink:8000", f"127.0.0.1:{deployment.port}")
    server = server.replace("/keys/", f"{deployment.keys}/")
    folders = "".join(f"{name}_temp_path {folder}/{name};" for name in FOLDERS)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders}\n{server} }}\n"
    )
    return subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf")])


@pytest.mark.deployment
@pytest.mark.skipif(NGINX is None, reason="no nginx")
def test_devices_reach_the_fleet_api_and_nothing_else(tmp_path):
    with Deployment(tmp_path, ["one"]) as deployment:
        deployment.register("one")
        port = free_port()
        proxy = gate(deployment, port, tmp_path)
        try:
            node = deployment.start_node("one", "capacity=1", port=port)
            node.says("SuperNode ID", 120)

            def refused(path: str) -> bool:
                url = f"https://127.0.0.1:{port}{path}"
                return httpx.post(url, verify=False).status_code == 403

            assert refused("/v1/control/start-run") and refused("/v1/control/register-node")
            assert refused("/v1/runtime/pull-task")
            wait_until(lambda: "online" in deployment.flwr("supernode", "list"), 120, "online")
        finally:
            proxy.terminate()
            proxy.wait()
