"""What this node found out about its capacity, on its disk: each message may find a new process."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from logging import WARNING
from pathlib import Path

from flwr.common import log

from client_app.cache.folder import cache_folder
from client_app.capacity import memory
from client_app.capacity.measuring import Cost
from efmodel import atomic_file

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Found:
    """The deepest exit that a node can train, why, and what its measurements gave, if any."""

    capacity: int
    why: str
    costs: list[Cost] = field(default_factory=list)


def path(name: str) -> Path:
    """Return where what is known under that name is kept."""
    return cache_folder() / "capacity" / f"{name}.json"


def keep(name: str, found: Found) -> None:
    """Write it down, whole or not at all."""
    record = json.dumps(asdict(found))
    atomic_file.write(path(name), f"{_digest(record)}\n{record}\n".encode())


def load(name: str) -> Found | None:
    """Return what is known under that name; None if nothing is, or if the file is torn."""
    try:
        digest, record = path(name).read_text(encoding="utf-8").splitlines()
        if digest != _digest(record):
            raise ValueError("its hash is another")
        known = json.loads(record)
        costs = [Cost(**cost) for cost in known.pop("costs")]
        return Found(**known, costs=costs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(WARNING, "capacity: %s is torn (%s), measuring again", path(name), error)
        return None


def _digest(record: str) -> str:
    return hashlib.sha256(record.encode()).hexdigest()


@contextmanager
def training(name: str) -> Iterator[None]:
    """Leave a mark while a round is trained: a process that the system kills cannot say so."""
    mark = path(name).with_suffix(".training")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps([os.getpid(), BOOT.read_text(), memory.kills()]))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def was_killed(name: str) -> bool:
    """Return, once, whether the last round's process was killed for lack of memory.

    It is taken for that if it left its mark behind while the system, not started again since,
    killed something for memory. One that was stopped, or lost its power, is no weaker for it.
    """
    mark = path(name).with_suffix(".training")
    try:
        pid, boot, kills = json.loads(mark.read_text())
    except (OSError, ValueError):
        return False
    if Path(f"/proc/{pid}").exists():  # another node's on this machine, still at it
        return False
    mark.unlink(missing_ok=True)
    return bool(boot == BOOT.read_text() and memory.kills() > kills)
