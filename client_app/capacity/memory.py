"""How much memory is left, and whether it ran out."""

from contextlib import suppress
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # a container's limit, which psutil does not know
VMSTAT = Path("/proc/vmstat")
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def free_mb() -> float:
    """Return the MB that this machine, or the container this runs in, has left."""
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int((CGROUP / "memory.max").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()))
    return free / 1e6


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is Python's or torch's (a RuntimeError) way to say so."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def kills() -> int:
    """Return how many processes the system has killed for memory since it started."""
    with suppress(OSError):
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
