"""Write a file atomically: readers see the old content or the new, never a part of it."""

import os
from pathlib import Path

PART = ".part"  # suffix of a file that is still being written


def write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically, and create its folder if it does not exist.

    Other processes find the old file or the complete new one, also after a crash or a power
    failure. Several processes may write the same path.

    Raises
    ------
    OSError
        If the file cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)  # free the space, the disk may be full
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name must survive a power failure, too
    finally:
        os.close(folder)
