"""What a reply must be before it may touch a sum."""

import math
import re
from collections.abc import Iterable
from textwrap import shorten
from typing import TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray

from efmodel import wire
from server_app.strategy.arrays import tensor, view

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Record = TypeVar("Record", ArrayRecord, MetricRecord)


class BadReplyError(ValueError):
    """A reply that is left out; the message says what was found and what was wanted."""


def only_record(records: Iterable[Record], kind: type[Record]) -> Record:
    """Return the one record of its kind that a reply carries."""
    found = list(records)
    if len(found) != 1:
        raise BadReplyError(f"found {len(found)} {kind.__name__}s, wanted one")
    return found[0]


def number(metrics: MetricRecord, key: str) -> float:
    """Return a metric that must be one finite number above 0."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise BadReplyError(f"{key}: found {value!r}, wanted a number above 0")
    return float(value)


def mean_of(metrics: MetricRecord, key: str) -> float:
    """Return the mean of a metric that must be finite numbers from 0, one per exit, or just one."""
    value = metrics.get(key)
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and 0 <= v < math.inf]
    if numbers and len(numbers) == len(values):
        return sum(numbers) / len(numbers)
    raise BadReplyError(f"{key}: found {value!r}, wanted numbers from 0, one per exit")


def checked_arrays(record: ArrayRecord, sent: ArrayRecord, wire_dtype: str) -> dict[str, NDArray]:
    """Return the tensors of a reply, read in place.

    Each must be one that was sent, of the shape sent, finite, and of the type sent; with a
    ``wire_dtype`` other than float32, floating tensors come in that type.
    """
    arrays = {}
    for name, array in record.items():
        if name not in sent:
            raise BadReplyError(f"{name}: found a tensor that was not sent to this node")
        wanted = wire.reply_dtype(sent[name].dtype, wire_dtype)
        arrays[name] = _checked(name, array, wanted, tuple(sent[name].shape))
    if not arrays:
        raise BadReplyError("found no tensors")
    return arrays


def checked_scales(
    records: Iterable[ConfigRecord], arrays: dict[str, NDArray], sent: ArrayRecord
) -> dict[str, float]:
    """Return the scale of each tensor that came as a change."""
    found = next(iter(records), ConfigRecord())
    scales = {}
    for name in arrays:
        if wire.is_real(sent[name].dtype):
            scale = found.get(name)
            if not isinstance(scale, float) or not 0 < scale < math.inf:
                raise BadReplyError(f"{name}: found scale {scale!r}, wanted a number above 0")
            scales[name] = scale
    return scales


def _checked(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> NDArray:
    wanted = f"wanted {dtype}{list(shape)}"
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise BadReplyError(f"{name}: found {array.dtype}{list(array.shape)}, {wanted}")
    try:
        values = view(array)
    except (ValueError, TypeError, EOFError) as error:
        raise BadReplyError(f"{name}: found bytes that are no tensor ({error})") from None
    if values.shape != shape or str(values.dtype) != dtype:
        found = f"{values.dtype}{list(values.shape)}"
        raise BadReplyError(f"{name}: found {found} in its bytes, {wanted}")
    if np.issubdtype(values.dtype, np.floating) and not _finite(values):
        raise BadReplyError(f"{name}: found nan or inf")
    return values


def _finite(values: NDArray) -> bool:
    # A sum is one pass without a copy, finite only if every value is; it may overflow though.
    total = tensor(values).sum(dtype=torch.float32)
    return math.isfinite(total) or bool(np.isfinite(values).all())


def error_reason(reply: Message) -> str:
    """Return why a node failed, in one line of at most 200 characters.

    In simulation a reason is Ray's whole traceback, in colour; the client's own words end it.
    """
    reason = " ".join(_COLOUR.sub("", reply.error.reason or "").split())
    _, _, own = reason.rpartition("ClientAppException occurred. Message: ")
    reason = own.rstrip("'\">") or reason
    return shorten(reason, 200, placeholder=" ...") or f"error {reply.error.code}"
