"""Read tensors in a message's bytes without copying them, and write them with one copy."""

import math
import warnings
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array
from flwr.common import NDArray

# Torch warns about read-only memory; nothing here writes to it.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def view(array: Array) -> NDArray:
    """Return the tensor in a message's bytes, read-only and without a copy.

    Raises
    ------
    ValueError
        If the bytes are not in the format of ``numpy.save``.
    """
    data = array.data
    start = 10 + int.from_bytes(data[8:10], "little")  # magic, version, the header and its length
    if data[6:8] != b"\x01\x00":
        return array.numpy()
    shape, by_column, dtype = _header(data[:start])
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    values = np.frombuffer(data, dtype, offset=start)
    return values.reshape(shape, order="F" if by_column else "C")


@lru_cache(1024)  # numpy parses headers as Python source, and all clients send the same
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = BytesIO(header)
    np.lib.format.read_magic(file)
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("found objects")
    return shape, by_column, dtype


def tensor(values: NDArray) -> torch.Tensor:
    """Return the same memory as a torch tensor, which must not be written to."""
    return torch.from_numpy(values)


def packed(values: NDArray) -> Array:
    """Return the same as ``Array(values)``, with one copy of the values instead of three."""
    values = np.asarray(values, order="C")  # ascontiguousarray would make a vector of a number
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    data = b"".join([header.getbuffer(), values.reshape(-1).view(np.uint8).data])
    return Array(dtype=str(values.dtype), shape=values.shape, stype="numpy.ndarray", data=data)
