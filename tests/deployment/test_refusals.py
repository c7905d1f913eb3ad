"""Nodes that are refused, and what each side reports: real programs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from efmodel.protocol import PROTOCOL
from server_app.keys import make_keys
from tests.app_with import app_with
from tests.deployment import misbehaving
from tests.deployment.control import PROGRAMS
from tests.deployment.deployment import Deployment, wait_until
from tests.deployment.speech import device_folders

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
NAMES = [
    "good",
    "stranger",
    "revoked",
    "other-ca",
    "plain",
    "nothing",
    "old",
    "zero",
    "nine",
    "liar",
]

pytestmark = pytest.mark.deployment


def doctor(deployment: Deployment, *arguments: str, **environment: str) -> str:
    """Return what ``ef-asr doctor`` says about the way to the SuperLink."""
    command = [str(PROGRAMS / "ef-asr"), "doctor", "--superlink", f"127.0.0.1:{deployment.port}"]
    done = subprocess.run(
        [*command, *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


OLDER = PROTOCOL - 1
# Python imports sitecustomize when it starts. This one changes efmodel.protocol once it is loaded.
SITECUSTOMIZE = f"""
import importlib.util
import sys


class OlderProtocol:
    def find_spec(self, name, path=None, target=None):
        if name != "efmodel.protocol":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        load = spec.loader.exec_module

        def load_older(module):
            load(module)
            module.PROTOCOL = {OLDER}

        spec.loader.exec_module = load_older
        return spec


sys.meta_path.insert(0, OlderProtocol())
"""


def environment_of_an_older_protocol(folder: Path) -> dict[str, str]:
    """Return an environment in which every Python program speaks the protocol ``OLDER``."""
    hook = folder / "older"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(SITECUSTOMIZE)
    search_path = [str(hook), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}


@pytest.mark.slow
def test_those_that_may_not_take_part_are_turned_away_and_the_run_goes_on(tmp_path):
    speech = device_folders(tmp_path / "speech", ["good"], utterances=8)["good"]
    make_keys(tmp_path / "other", ["127.0.0.1"], ["other-ca"])
    with Deployment(tmp_path, NAMES) as deployment:
        ids = {name: deployment.register(name) for name in NAMES if name != "stranger"}
        assert "unregistered successfully" in deployment.flwr(
            "supernode", "unregister", str(ids["revoked"])
        )
        roots, other = str(deployment.keys / "ca.crt"), tmp_path / "other"
        start, bare = deployment.start_node, deployment.start_bare_node
        key = str(deployment.keys / "plain")
        turned_away = {
            "2001": bare("nothing", "--root-certificates", roots),
            "2004": start("stranger", "capacity=1"),
            "2004 ": start("revoked", "capacity=1"),
            "CERTIFICATE_VERIFY_FAILED": start("other-ca", "capacity=1", keys=other),
            "TLS is not enabled": bare("plain", "--insecure", "--auth-supernode-private-key", key),
        }
        start("good", "capacity=2", speech)
        start("zero", "capacity=0", speech)
        start("nine", "capacity=9", speech)
        start("old", "capacity=1", speech, **environment_of_an_older_protocol(tmp_path))
        start("liar", "capacity=1 claims=3", speech)
        run_id = deployment.run(
            app_with(tmp_path, Path(misbehaving.__file__)),
            rounds=1, min_nodes=5, min_train_nodes=5, fraction_train=1.0, local_epochs=1,
            data="audiofolder", data_path="",
        )  # fmt: skip
        assert deployment.finish(run_id, 300) == "finished:completed", deployment.superlink.log
        for words, node in turned_away.items():
            node.says(words.strip(), 120)
            wait_until(lambda node=node: node.process.poll() is not None, 120, "it ends")
            assert node.process.returncode != 0
        server = deployment.superlink.log
        assert server.count("2001") >= 1 and server.count("2004") >= 2

        (record,) = deployment.rounds()
        failures = record["failures"]
        assert record["capacities"] == {"good": 2, "liar": 3}
        assert record["trainers-per-exit"] == [
            2,
            1,
            0,
        ]  # what a liar did not train, it gets no part in
        run_log = deployment.flwr("log", run_id, "deployment", "--show")
        assert "liar said that it can train exit 3 and returned exit 1" in run_log
        assert "capacity: found 0, wanted 1 to 3" in failures[str(ids["zero"])]
        assert "capacity: found 9, wanted 1 to 3" in failures[str(ids["nine"])]
        wanted = f"protocol: found {PROTOCOL} on the server, wanted {OLDER} as on this node"
        assert wanted in failures[str(ids["old"])]

        # What a SuperNode says nothing about, the doctor does.
        found = doctor(deployment, "--insecure")
        assert "the server speaks TLS, this SuperNode would speak plain" in found
        found = doctor(deployment, "--root-certificates", str(other / "ca.crt"))
        assert "give --root-certificates the CA that signed" in found


@pytest.mark.skipif(FAKETIME is None, reason="no libfaketime (Debian's package faketime)")
def test_devices_whose_clocks_are_an_hour_off_are_turned_away_and_told(tmp_path):
    clocks = {"early": ("+1h", "ahead of"), "late": ("-1h", "behind")}
    with Deployment(tmp_path, list(clocks)) as deployment:
        nodes = {}
        for name, (offset, _) in clocks.items():
            deployment.register(name)
            clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset}
            nodes[name] = deployment.start_node(name, "capacity=1", **clock)
        for name, node in nodes.items():
            wait_until(lambda node=node: node.process.poll() is not None, 120, f"{name} ends")
            assert "SuperNode ID" not in node.log
            # A SuperNode says nothing about it; the doctor, who looks first, does.
            side = clocks[name][1]
            (seconds,) = re.findall(rf"WRONG +clock: (\d+) s {side} the server's", node.log)
            assert abs(int(seconds) - 3600) < 30, node.log  # a busy machine answers late
            assert "timedatectl set-ntp true" in node.log
        refused = 'activate-node HTTP/1.1" 401'
        wait_until(lambda: deployment.superlink.log.count(refused) >= 2, 60, "both are refused")
