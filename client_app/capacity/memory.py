"""Free memory, and signs that memory ran out."""

from contextlib import suppress
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # a container's limit, which psutil does not see
# Files of the limit and of what is in use, relative to CGROUP: version 2 of control groups, and
# version 1, which a Jetson's system and older ones have.
LIMIT_FILES = {
    "memory.max": "memory.current",
    "memory/memory.limit_in_bytes": "memory/memory.usage_in_bytes",
}
VMSTAT = Path("/proc/vmstat")
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
)  # fmt: skip


def free_mb() -> float:
    """Return the free memory of this machine, or of the container, in MB."""
    free = int(psutil.virtual_memory().available)
    for limit, used in LIMIT_FILES.items():
        with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
            in_use = int((CGROUP / used).read_text()) - _file_cache((CGROUP / used).parent)
            free = min(free, int((CGROUP / limit).read_text()) - in_use)
    return free / 1e6


def _file_cache(cgroup: Path) -> int:
    """Return the bytes of files that a control group keeps in memory, and gives up if asked to.

    Importing torch alone leaves 0.4 GB of its libraries there.
    """
    lines = (cgroup / "memory.stat").read_text().splitlines()
    return sum(
        int(line.split()[1])
        for line in lines
        if line.startswith(("inactive_file ", "active_file "))
    )


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
