"""The frozen tensors that the server sent to this node once, as files.

On a device each message starts a new process, so that memory is no place for them.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord
from safetensors import SafetensorError
from safetensors.numpy import save

from efmodel import atomic_file
from efmodel.cache_folder import cache_folder

if TYPE_CHECKING:  # a query is answered without torch
    from torch import Tensor

# Sets of tensors on disk: one per run and capacity. All nodes of a simulation share them.
MAX_SETS = 12


def keep(name: str, arrays: ArrayRecord) -> None:
    """Write the tensors atomically, and delete the sets that were not used for longest."""
    data = save({tensor: array.numpy() for tensor, array in arrays.items()})
    path = _path(name)
    atomic_file.write(path, data)
    sets = sorted(path.parent.glob("*.safetensors"), key=_last_used)
    for oldest in sets[:-MAX_SETS]:
        oldest.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    with suppress(FileNotFoundError):  # another client of this machine has deleted it
        return path.stat().st_mtime
    return 0.0


def load(name: str) -> "dict[str, Tensor]":
    """Return the tensors kept under a name.

    Raises
    ------
    FileNotFoundError
        If they are missing; after this error the server sends them again.
    """
    from safetensors.torch import load_file

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
