"""What a reply must be before it may touch a sum."""

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.common import NDArray

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


def checked_arrays(record: ArrayRecord, sent: ArrayRecord) -> dict[str, NDArray]:
    """Return the tensors of a reply, each one sent, of the shape and type sent, and finite."""
    arrays = {}
    for name, array in record.items():
        if name not in sent:
            raise BadReplyError(f"{name}: found a tensor that was not sent to this node")
        arrays[name] = _checked(name, array, sent[name])
    if not arrays:
        raise BadReplyError("found no tensors")
    return arrays


def _checked(name: str, array: Array, sent: Array) -> NDArray:
    if tuple(array.shape) != tuple(sent.shape) or array.dtype != sent.dtype:
        raise BadReplyError(
            f"{name}: found {array.dtype}{list(array.shape)}, wanted {sent.dtype}{list(sent.shape)}"
        )
    values = array.numpy()
    if tuple(values.shape) != tuple(array.shape) or str(values.dtype) != array.dtype:
        raise BadReplyError(f"{name}: found {values.dtype}{list(values.shape)} in its bytes")
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise BadReplyError(f"{name}: found nan or inf")
    return values


def error_reason(reply: Message) -> str:
    """Return why a node failed, in one line."""
    return " ".join((reply.error.reason or "").split()) or f"error {reply.error.code}"
