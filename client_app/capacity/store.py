"""Store a node's capacity on its disk: on a device each message starts a new process."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from logging import WARNING
from pathlib import Path

from flwr.common import log

from client_app.capacity import memory
from client_app.capacity.measuring import Cost
from efmodel import atomic_file
from efmodel.cache_folder import cache_folder

BOOT = Path("/proc/sys/kernel/random/boot_id")  # changes when the system starts


@dataclass(frozen=True)
class NodeCapacity:
    """The capacity of a node for one model, as it is stored.

    Attributes
    ----------
    capacity : int
        The deepest exit that the node can train, from 1.
    why : str
        Where the number comes from.
    costs : list of Cost
        The measurements; empty if the node config sets the capacity.
    """

    capacity: int
    why: str
    costs: list[Cost] = field(default_factory=list)


def path(key: str) -> Path:
    """Return the file of a capacity; ``client_app.capacity.own.cache_key`` makes the key."""
    return cache_folder() / "capacity" / f"{key}.json"


def keep(key: str, capacity: NodeCapacity) -> None:
    """Write a capacity and its hash, atomically."""
    record = json.dumps(asdict(capacity))
    atomic_file.write(path(key), f"{_digest(record)}\n{record}\n".encode())


def load(key: str) -> NodeCapacity | None:
    """Return the stored capacity; None if there is none, or its file is damaged."""
    try:
        digest, record = path(key).read_text(encoding="utf-8").splitlines()
        if digest != _digest(record):
            raise ValueError("its hash differs from its content's")
        values = json.loads(record)
        costs = [Cost(**cost) for cost in values.pop("costs")]
        return NodeCapacity(**values, costs=costs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(WARNING, "capacity: %s is damaged (%s); it is measured again", path(key), error)
        return None


def _digest(record: str) -> str:
    return hashlib.sha256(record.encode()).hexdigest()


@contextmanager
def training(key: str) -> Iterator[None]:
    """Leave a mark on disk while a round runs: a killed process can report nothing."""
    mark = path(key).with_suffix(".training")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps([os.getpid(), BOOT.read_text(), memory.oom_kills()]))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def was_killed(key: str) -> bool:
    """Return, once, whether the system killed the last round's process for lack of memory.

    That is assumed if the round left its mark behind, the system has not started again since, and
    it has killed a process for memory meanwhile. A process that somebody stopped, or that lost
    power, does not count.
    """
    mark = path(key).with_suffix(".training")
    try:
        pid, boot, kills = json.loads(mark.read_text())
    except (OSError, ValueError):
        return False
    if Path(f"/proc/{pid}").exists():  # another node of this machine is still training
        return False
    mark.unlink(missing_ok=True)
    return bool(boot == BOOT.read_text() and memory.oom_kills() > kills)
