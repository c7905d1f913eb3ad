"""Encoding of tensors in messages: float32, float16 or int8.

With ``float32`` a client returns its tensors' values. With ``float16`` and ``int8`` the server
sends float16, and the client returns each floating tensor's *change* divided by a scale, one per
tensor. A change is small beside the value: rounding the value itself would lose it.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.common import NDArray

WIRE_DTYPES = ("float32", "float16", "int8")
_LARGEST = {"float16": 1.0, "int8": 127.0}  # the encoded value of a tensor's largest change
_HALF = np.finfo(np.float16)


def is_real(dtype: str) -> bool:
    """Return whether a data type, by name, is floating."""
    return dtype.startswith("float")


def reply_dtype(sent_dtype: str, wire_dtype: str) -> str:
    """Return the data type in which a client returns a tensor; integers keep theirs."""
    if wire_dtype == "float32" or not is_real(sent_dtype):
        return sent_dtype
    return wire_dtype


def for_sending(arrays: ArrayRecord, wire_dtype: str) -> ArrayRecord:
    """Return the tensors as the server sends them: floats as float16, unless float32 is asked."""
    if wire_dtype == "float32":
        return arrays
    return ArrayRecord({name: _as_float16(array) for name, array in arrays.items()})


def _as_float16(array: Array) -> Array:
    if not is_real(array.dtype):
        return array
    return Array(np.clip(array.numpy(), _HALF.min, _HALF.max).astype(np.float16))


def received(arrays: ArrayRecord) -> ArrayRecord:
    """Return the tensors as a client trains them: float16 becomes float32."""
    return ArrayRecord(
        {
            name: Array(array.numpy().astype(np.float32)) if array.dtype == "float16" else array
            for name, array in arrays.items()
        }
    )


def encode(
    trained: ArrayRecord,
    start: ArrayRecord,
    wire_dtype: str,
    residual: Mapping[str, NDArray],
) -> tuple[ArrayRecord, dict[str, float], dict[str, NDArray]]:
    """Return a client's encoded tensors, each tensor's scale, and the new residual.

    The residual is what int8 rounded away. It is added to the next change (error feedback; Seide
    et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014): small changes arrive over
    several rounds.

    Parameters
    ----------
    trained, start : ArrayRecord
        The tensors after and before training, with the same names.
    wire_dtype : str
        "float16" or "int8".
    residual : Mapping[str, NDArray]
        The residual that the previous call returned; empty the first time.
    """
    arrays, scales, new_residual = {}, {}, {}
    for name, array in trained.items():
        if not is_real(array.dtype):
            arrays[name] = array
            continue
        change = array.numpy().astype(np.float32) - start[name].numpy().astype(np.float32)
        if name in residual:
            change = change + residual[name]
        scale = float(np.abs(change).max(initial=0.0)) / _LARGEST[wire_dtype] or 1.0
        scaled = change / np.float32(scale)
        if wire_dtype == "int8":
            with np.errstate(invalid="ignore"):  # the scale of nan is nan: the server refuses it
                encoded = np.rint(scaled).astype(np.int8)
            new_residual[name] = np.asarray(change - encoded * np.float32(scale))
        else:
            encoded = scaled.astype(np.float16)
        arrays[name], scales[name] = Array(np.asarray(encoded)), scale
    return ArrayRecord(arrays), scales, new_residual
