"""Turn a reply into a client update: validate all but its values, and compute its weight."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from textwrap import shorten
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray

from efmodel import wire
from efmodel.protocol import SECOND_MOMENTS
from efmodel.weighting import WEIGHTINGS, MetricError, examples_of, weight_of
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
        If the reply is an error, or does not carry exactly one record of each, beside moments.
    """
    if reply.has_error():
        raise BadReplyError(error_reason(reply))
    metrics = _only_record(reply.content.metric_records.values(), MetricRecord)
    arrays = [r for key, r in reply.content.array_records.items() if key != SECOND_MOMENTS]
    return _only_record(arrays, ArrayRecord), metrics


def _only_record(records: Iterable[Record], kind: type[Record]) -> Record:
    all_records = list(records)
    if len(all_records) != 1:
        raise BadReplyError(f"found {len(all_records)} {kind.__name__}s, wanted one")
    return all_records[0]


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


def read_moments(reply: Message, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return the second moments that a reply carries: one number per row of a returned tensor.

    Clients clip their gradients to a norm of 1, so that no larger number can be true.

    Raises
    ------
    BadReplyError
        Naming the tensor whose moments do not fit.
    """
    moments = {}
    for name, array in reply.content.array_records.get(SECOND_MOMENTS, ArrayRecord()).items():
        if name not in arrays:
            raise BadReplyError(f"{SECOND_MOMENTS}: found {name}, which the reply does not hold")
        moments[name] = _read_array(name, array, "float32", arrays[name].shape[:1])
        wrong = moments[name][~((moments[name] >= 0) & (moments[name] <= 1))]
        if wrong.size:
            wanted = "wanted numbers from 0 to 1"
            raise BadReplyError(f"{SECOND_MOMENTS}: {name}: found {wrong[0]:g}, {wanted}")
    return moments


def error_reason(reply: Message) -> str:
    """Return why a node failed, in one line of at most 200 characters.

    In simulation the reason is Ray's whole coloured traceback, which the client's own message ends.
    """
    reason = " ".join(_COLOUR.sub("", reply.error.reason or "").split())
    _, _, message = reason.rpartition("ClientAppException occurred. Message: ")
    reason = message.rstrip("'\">") or reason
    return shorten(reason, 200, placeholder=" ...") or f"error {reply.error.code}"


@dataclass(frozen=True)
class ClientUpdate:
    """What one client trained in one round, ready to be added to the sums."""

    sender: int  # Flower's id of the client's node
    arrays: dict[str, NDArray]  # views of the message's bytes; may still hold nan or inf
    scales: dict[str, float] | None  # of each tensor that came as a change; None: all are values
    weight: float  # w_k, above 0
    metrics: MetricRecord
    # Second moments of the client's optimizer: one number per row of each tensor.
    second_moments: dict[str, NDArray] = field(default_factory=dict)


class UpdateReader:
    """Reads replies by the settings of a run.

    Parameters
    ----------
    examples_key : str
        The metric with the number of training examples.
    weighting : str
        How the weight is computed, see ``efmodel.weighting.weight_of``.
    wire_dtype : str
        How tensors travel, see ``efmodel.wire``.

    Raises
    ------
    ValueError
        If there is no such weighting or wire type.
    """

    def __init__(self, examples_key: str, weighting: str, wire_dtype: str) -> None:
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: found {weighting!r}, wanted one of {list(WEIGHTINGS)}")
        if wire_dtype not in wire.WIRE_DTYPES:
            raise ValueError(f"wire-dtype: found {wire_dtype!r}, wanted one of {wire.WIRE_DTYPES}")
        self.examples_key = examples_key
        self.weighting = weighting
        self.wire_dtype = wire_dtype

    def read(self, reply: Message, sent: ArrayRecord | None, capacity: int) -> ClientUpdate:
        """Return the update that a reply carries.

        Parameters
        ----------
        reply : Message
            The reply.
        sent : ArrayRecord or None
            The tensors that its client was asked to train; None if it was not asked.
        capacity : int
            Capacity of the client.

        Raises
        ------
        BadReplyError
            Naming what is wrong with it.
        """
        record, metrics = content_of(reply)
        if sent is None:
            raise BadReplyError("found a reply to no message of this round")
        try:
            examples = examples_of(metrics, self.examples_key)
            weight = weight_of(self.weighting, metrics, examples, capacity)
        except MetricError as error:
            raise BadReplyError(str(error)) from None
        arrays, scales = read_arrays(record, sent, self.wire_dtype), None
        if self.wire_dtype != "float32":
            scales = read_scales(reply.content.config_records.values(), arrays, sent)
        moments = read_moments(reply, arrays)
        return ClientUpdate(reply.metadata.src_node_id, arrays, scales, weight, metrics, moments)
