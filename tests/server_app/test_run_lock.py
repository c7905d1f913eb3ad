"""The lock of a run folder, between processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server_app import run_lock
from server_app.run_lock import FolderInUseError

HOLD = """
import sys
from pathlib import Path
from server_app import run_lock
with run_lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


def holder(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that holds the lock, or fails to, until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_one_run_at_a_time_and_a_crash_leaves_no_lock(tmp_path):
    other = holder(tmp_path)
    try:
        assert other.stdout.readline() == "held\n"
        who = rf"found a run under way \(process {other.pid} on {socket.gethostname()}, since 2"
        with pytest.raises(FolderInUseError, match=who), run_lock.held(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with run_lock.held(tmp_path):
        pass


def test_a_server_app_joins_the_run_that_started_it(tmp_path):
    with run_lock.held(tmp_path):
        out, error = holder(tmp_path).communicate("")
        assert out == "held\n", error
        with pytest.raises(FolderInUseError, match="under way"), run_lock.held(tmp_path):
            pass  # a second run in one process is another run


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(FolderInUseError, match=f"output: {tmp_path / 'file'} cannot be written"),
        run_lock.held(tmp_path / "file"),
    ):
        pass
