"""Free memory, and signs that memory ran out."""

from contextlib import suppress
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # a container's limit, which psutil does not see
VMSTAT = Path("/proc/vmstat")
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
)  # fmt: skip


def free_mb() -> float:
    """Return the free memory of this machine, or of the container, in MB."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int((CGROUP / "memory.max").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()))
    return free / 1e6


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is Python's MemoryError or torch's RuntimeError for full memory."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def oom_kills() -> int:
    """Return how many processes the system has killed for memory since it started."""
    with suppress(OSError):
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
