"""Validate a reply before it is aggregated: everything but its values, which are still unread."""

import math
import re
from collections.abc import Iterable
from textwrap import shorten
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray

from efmodel import wire
from server_app.strategy.arrays import view

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Record = TypeVar("Record", ArrayRecord, MetricRecord)


class BadReplyError(ValueError):
    """A reply cannot be aggregated; the message says what was found and what was wanted."""


def content_of(reply: Message) -> tuple[ArrayRecord, MetricRecord]:
    """Return the tensors and the metrics that a reply carries.

    Raises
    ------
    BadReplyError
        If the reply is an error, or does not carry exactly one record of each.
    """
    if reply.has_error():
        raise BadReplyError(error_reason(reply))
    metrics = _only_record(reply.content.metric_records.values(), MetricRecord)
    return _only_record(reply.content.array_records.values(), ArrayRecord), metrics


def _only_record(records: Iterable[Record], kind: type[Record]) -> Record:
    all_records = list(records)
    if len(all_records) != 1:
        raise BadReplyError(f"found {len(all_records)} {kind.__name__}s, wanted one")
    return all_records[0]


def number(metrics: MetricRecord, key: str) -> float:
    """Return a metric that must be one finite number above 0."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise BadReplyError(f"{key}: found {value!r}, wanted a number above 0")
    return float(value)


def mean_of(metrics: MetricRecord, key: str) -> float:
    """Return the mean of a metric: finite numbers from 0, one per exit, or a single number."""
    value = metrics.get(key)
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and 0 <= v < math.inf]
    if numbers and len(numbers) == len(values):
        return sum(numbers) / len(numbers)
    raise BadReplyError(f"{key}: found {value!r}, wanted numbers from 0, one per exit")


def read_arrays(record: ArrayRecord, sent: ArrayRecord, wire_dtype: str) -> dict[str, NDArray]:
    """Return the tensors of a reply as views of its bytes.

    Each one must have been sent to the client, and come back in the shape and type that were sent;
    with a ``wire_dtype`` other than float32, floating tensors come back in that type.

    Raises
    ------
    BadReplyError
        Naming the tensor that does not fit.
    """
    arrays = {}
    for name, array in record.items():
        if name not in sent:
            raise BadReplyError(f"{name}: found a tensor that was not sent to this node")
        dtype = wire.reply_dtype(sent[name].dtype, wire_dtype)
        arrays[name] = _read_array(name, array, dtype, tuple(sent[name].shape))
    if not arrays:
        raise BadReplyError("found no tensors")
    return arrays


def _read_array(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> NDArray:
    wanted = f"wanted {dtype}{list(shape)}"
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise BadReplyError(f"{name}: found {array.dtype}{list(array.shape)}, {wanted}")
    try:
        values = view(array)
    except (ValueError, TypeError, EOFError) as error:
        raise BadReplyError(f"{name}: found bytes that are no tensor ({error})") from None
    if values.shape != shape or str(values.dtype) != dtype:
        header = f"{values.dtype}{list(values.shape)}"
        raise BadReplyError(f"{name}: found {header} in its bytes, {wanted}")
    return values


def read_scales(
    records: Iterable[ConfigRecord], arrays: dict[str, NDArray], sent: ArrayRecord
) -> dict[str, float]:
    """Return the scale of each tensor that came as a change.

    Raises
    ------
    BadReplyError
        If a scale is missing or no number above 0.
    """
    record = next(iter(records), ConfigRecord())
    scales = {}
    for name in arrays:
        if wire.is_real(sent[name].dtype):
            scale = record.get(name)
            if not isinstance(scale, float) or not 0 < scale < math.inf:
                raise BadReplyError(f"{name}: found scale {scale!r}, wanted a number above 0")
            scales[name] = scale
    return scales


def error_reason(reply: Message) -> str:
    """Return why a node failed, in one line of at most 200 characters.

    In simulation the reason is Ray's whole coloured traceback, which the client's own message ends.
    """
    reason = " ".join(_COLOUR.sub("", reply.error.reason or "").split())
    _, _, message = reason.rpartition("ClientAppException occurred. Message: ")
    reason = message.rstrip("'\">") or reason
    return shorten(reason, 200, placeholder=" ...") or f"error {reply.error.code}"
