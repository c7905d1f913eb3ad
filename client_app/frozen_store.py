"""The frozen tensors that this node was sent once, on its disk.

There, because each message may find a new process.
"""

from pathlib import Path

from flwr.app import ArrayRecord
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor

from efmodel import whole_file
from efmodel.cache_folder import cache_folder


def keep(name: str, arrays: ArrayRecord) -> None:
    """Write the tensors down, whole or not at all."""
    data = save({each: array.numpy() for each, array in arrays.items()})
    whole_file.write(_path(name), data)


def load(name: str) -> dict[str, Tensor]:
    """Return the tensors kept under that name.

    Raises
    ------
    FileNotFoundError
        If they are not there any more; the server sends them again to a node that says so.
    """
    try:
        tensors: dict[str, Tensor] = load_file(_path(name))
    except (OSError, SafetensorError) as error:
        raise FileNotFoundError(
            f"frozen: found no tensors {name} on this node's disk, wanted those sent ({error})"
        ) from None
    return tensors


def _path(name: str) -> Path:
    return cache_folder() / "frozen" / f"{name}.safetensors"
