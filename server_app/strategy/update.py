"""Turn a reply into a client update: validated, and weighed."""

from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.common import NDArray

from efmodel import wire
from server_app.strategy.reply import BadReplyError, content_of, read_arrays, read_scales
from server_app.strategy.weighting import WEIGHTINGS, examples_of, weight_of


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
        How the weight is computed, see ``weighting.weight_of``.
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
