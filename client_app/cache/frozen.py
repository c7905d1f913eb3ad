"""The frozen tensors that this node was sent once, on its disk.

There, because each message may find a new process. Those that were not used for longest go first.
"""

import os
from contextlib import suppress
from pathlib import Path

from flwr.app import ArrayRecord
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor

from client_app.cache.folder import cache_folder
from efmodel import atomic_file

KEPT = 12  # sets of tensors: one per run and capacity, and a simulation has them all in one place


def keep(name: str, arrays: ArrayRecord) -> None:
    """Write the tensors down, whole or not at all."""
    data = save({each: array.numpy() for each, array in arrays.items()})
    path = _path(name)
    atomic_file.write(path, data)
    sets = sorted(path.parent.glob("*.safetensors"), key=_last_used)
    for oldest in sets[:-KEPT]:
        oldest.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    with suppress(FileNotFoundError):  # another client of the same machine was faster
        return path.stat().st_mtime
    return 0.0


def load(name: str) -> dict[str, Tensor]:
    """Return the tensors kept under that name.

    Raises
    ------
    FileNotFoundError
        If they are not there any more; the server sends them again to a node that says so.
    """
    try:
        tensors: dict[str, Tensor] = load_file(_path(name))
        os.utime(_path(name))
    except (OSError, SafetensorError) as error:
        raise FileNotFoundError(
            f"frozen: found no tensors {name} on this node's disk, wanted those sent ({error})"
        ) from None
    return tensors


def _path(name: str) -> Path:
    return cache_folder() / "frozen" / f"{name}.safetensors"
