"""Writing a file so that it is there whole, or not there, whatever happens meanwhile."""

import os
from pathlib import Path

PART = ".part"  # ends the name of a file that is still being written


def write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, in a folder that is made if need be.

    Whoever else writes or reads it, and after a crash or a loss of power too, finds all of it or
    what was there before.
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
        part.unlink(missing_ok=True)  # a full disk is not left fuller
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too
    finally:
        os.close(folder)
