"""Turn a reply into a client update: validate all but its values, and compute its weight."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from textwrap import shorten
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray

from efmodel import wire
from efmodel.protocol import SECONDS, TRAIN_LOSS, WORD_ERRORS, WORDS
from server_app.strategy.arrays import view

MOST_EXAMPLES = (
    10_000_000  # no device holds more utterances; a larger number would dominate the mean
)
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


def weight_of(weighting: str, metrics: MetricRecord, examples: float, capacity: int) -> float:
    """Return w_k of one client, a number above 0.

    ======== ==================================================================================
    examples n, its training utterances
    seconds  its training speech in seconds
    uniform  1
    depth    n times its capacity (arXiv 2603.21888)
    loss     1 / (1 + its training loss), the mean over its exits
    wer      1 / (1 + WER), the mean over its exits, of the model that it was sent, on its own
             held-out speech; WER 1 for a client without held-out speech
    ======== ==================================================================================

    The last two resemble the quality weights of Gao et al. (arXiv 2104.14297). Their softmax needs
    the values of all clients; this function needs one, so that each reply is added as it comes. It
    also leaves a client with a loss of 300 some weight.

    Raises
    ------
    BadReplyError
        If a metric that the weighting needs is missing or not a valid number.
    """
    return WEIGHTINGS[weighting](metrics, examples, capacity)


def _wer(metrics: MetricRecord) -> float:
    if not metrics.get(WORDS):
        return 1.0
    return mean_of(metrics, WORD_ERRORS) / number(metrics, WORDS)


WEIGHTINGS: dict[str, Callable[[MetricRecord, float, int], float]] = {
    "examples": lambda metrics, examples, capacity: examples,
    "seconds": lambda metrics, examples, capacity: number(metrics, SECONDS),
    "uniform": lambda metrics, examples, capacity: 1.0,
    "loss": lambda metrics, examples, capacity: 1 / (1 + mean_of(metrics, TRAIN_LOSS)),
    "wer": lambda metrics, examples, capacity: 1 / (1 + _wer(metrics)),
    "depth": lambda metrics, examples, capacity: examples * capacity,
}


def examples_of(metrics: MetricRecord, key: str) -> float:
    """Return a client's number of training examples.

    Raises
    ------
    BadReplyError
        If it is missing, not a number above 0, or more than ``MOST_EXAMPLES``.
    """
    examples = number(metrics, key)
    if examples > MOST_EXAMPLES:
        raise BadReplyError(f"{key}: found {examples:g}, wanted at most {MOST_EXAMPLES}")
    return examples


@dataclass(frozen=True)
class ClientUpdate:
    """What one client trained in one round, ready to be added to the sums."""

    arrays: dict[str, NDArray]  # views of the message's bytes; may still hold nan or inf
    scales: dict[str, float] | None  # of each tensor that came as a change; None: all are values
    weight: float  # w_k, above 0
    metrics: MetricRecord


class UpdateReader:
    """Reads replies by the settings of a run.

    Parameters
    ----------
    examples_key : str
        The metric with the number of training examples.
    weighting : str
        How the weight is computed, see ``weight_of``.
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
        examples = examples_of(metrics, self.examples_key)
        weight = weight_of(self.weighting, metrics, examples, capacity)
        arrays, scales = read_arrays(record, sent, self.wire_dtype), None
        if self.wire_dtype != "float32":
            scales = read_scales(reply.content.config_records.values(), arrays, sent)
        return ClientUpdate(arrays, scales, weight, metrics)
