"""The lock of a run folder: only one run at a time writes into it."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from efmodel.errors import UserError

LOCK = "run.lock"  # in the run folder; a file that stays is not a lock that is held


class FolderInUseError(UserError):
    """A run folder that another run is writing into, or that cannot be written at all."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; the system releases it however the process ends.

    The server app of ``ef-asr simulate`` finds it held by a process that it descends from: by its
    own run, which it joins.

    Raises
    ------
    FolderInUseError
        Naming the process that holds the lock, its machine, and since when; or if the folder
        cannot be written.
    """
    try:
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise FolderInUseError(
            f"output: {folder} cannot be written ({error.strerror}), wanted a folder of yours"
        ) from None
    with file:
        if _locked(file):
            _write_holder(file)
        else:
            holder = _read_holder(file)
            if not _is_this_run(holder):
                raise FolderInUseError(_complaint(folder, holder))
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can hold one
        return True
    return True


def _write_holder(file: IO[str]) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
    file.flush()


def _read_holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        return dict(json.loads(file.read()))
    except ValueError:  # it is just being written
        return {"pid": "unknown", "host": "unknown", "since": "just now"}


def _is_this_run(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return False
    return holder["pid"] in [parent.pid for parent in psutil.Process().parents()]


def _complaint(folder: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    return f"{folder}: found a run under way ({who}), wanted none: wait for its end, or stop it"
