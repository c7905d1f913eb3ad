"""Tensors on the wire: whole, in half, or in a quarter of the bytes.

With ``float32`` a client returns its tensors' values. With ``float16`` and ``int8`` it is sent
float16, and returns how each floating tensor *changed* on it, divided by a scale of that tensor's
own: a change is small beside the value, and would drown in its rounding.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.common import NDArray

WIRE_DTYPES = ("float32", "float16", "int8")
_LARGEST = {"float16": 1.0, "int8": 127.0}  # what the largest change of a tensor becomes
_HALF = np.finfo(np.float16)


def is_real(dtype: str) -> bool:
    """Return whether a tensor's type, by name, is floating."""
    return dtype.startswith("float")


def reply_dtype(sent_dtype: str, wire_dtype: str) -> str:
    """Return the type in which a client returns a tensor; whole numbers stay as they are."""
    if wire_dtype == "float32" or not is_real(sent_dtype):
        return sent_dtype
    return wire_dtype


def for_sending(arrays: ArrayRecord, wire_dtype: str) -> ArrayRecord:
    """Return the tensors as the server sends them: floats in float16 unless all is float32."""
    if wire_dtype == "float32":
        return arrays
    return ArrayRecord({name: _halved(array) for name, array in arrays.items()})


def _halved(array: Array) -> Array:
    if not is_real(array.dtype):
        return array
    return Array(np.clip(array.numpy(), _HALF.min, _HALF.max).astype(np.float16))


def received(arrays: ArrayRecord) -> ArrayRecord:
    """Return the tensors as a client works with them: what came as float16 in float32."""
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
    """Return what a client sends back, each tensor's scale, and what rounding left over.

    With ``int8`` the part of a change that rounding lost is kept and added to the next one (error
    feedback; Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014), so that small
    changes arrive in the end.

    Parameters
    ----------
    trained, start : ArrayRecord
        The tensors after and before training, same names.
    wire_dtype : str
        "float16" or "int8".
    residual : Mapping[str, NDArray]
        What the last call left over; empty the first time.
    """
    arrays, scales, left = {}, {}, {}
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
            with np.errstate(invalid="ignore"):  # nan: its scale says so to the server
                coded = np.rint(scaled).astype(np.int8)
            left[name] = np.asarray(change - coded * np.float32(scale))
        else:
            coded = scaled.astype(np.float16)
        arrays[name], scales[name] = Array(np.asarray(coded)), scale
    return ArrayRecord(arrays), scales, left
