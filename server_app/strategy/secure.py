"""Secure aggregation on the server: what a partial strategy does differently with it.

Clients agree on keys before they are asked to train (``key_exchange``), their replies hold masked
tensors, and only the sum of all is unmasked (``masked_sum``).
"""

import math
from collections.abc import Mapping
from logging import INFO
from typing import Any

from flwr.app import Array, ArrayRecord
from flwr.common import log
from flwr.serverapp import Grid

from efmodel import wire
from efmodel.protocol import (
    BLOCK_TENSORS,
    BLOCK_WEIGHT,
    MAX_UPDATE_NORM,
    MAX_WEIGHT,
    PARTICIPANTS,
    VALUE_RANGE,
    WEIGHTING,
)
from efmodel.secure import quantise
from efmodel.weighting import AT_MOST_ONE
from server_app.strategy.clipping import Bound
from server_app.strategy.key_exchange import KeyExchange
from server_app.strategy.masked_sum import MaskedSum
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.round_report import RoundReport


class SecureAggregation:
    """Secure aggregation in the rounds of one run.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        ``{tensor name: shallowest exit that needs it}``. Tensors of one exit are a block.
    weighting : str
        How a client's weight is computed, see ``efmodel.weighting``.
    bound : Bound
        L2 norm to which each client clips its own change.
    wire_dtype : str
        How tensors travel; only float32 is possible.
    sampling : str
        How the cohort is drawn; only "fixed" is possible.
    min_trainers : int
        Tensors that fewer clients trained keep their values.
    max_weight : float
        The largest weight of a client, if the weighting has none of its own.
    timeout : float
        Seconds to wait for the replies of a stage.

    Raises
    ------
    ValueError
        If a key does not combine with secure aggregation.
    """

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        weighting: str,
        bound: Bound,
        wire_dtype: str,
        sampling: str,
        min_trainers: int,
        max_weight: float,
        timeout: float,
    ) -> None:
        if wire_dtype != "float32":
            raise ValueError(
                f"wire-dtype: found {wire_dtype!r}, wanted float32: with secure-aggregation each "
                "value travels as a masked number of 32 bits"
            )
        if math.isnan(bound.norm):
            raise ValueError(
                "max-update-norm: found 'auto', wanted off or a number: with secure-aggregation "
                "the server sees no client's norm, of which to take the median"
            )
        if bound.parts:
            raise ValueError(
                "clip-by: found 'tensor', wanted update: with secure-aggregation clients clip "
                "their change as a whole"
            )
        if sampling != "fixed":
            raise ValueError(
                f"dp-sampling: found {sampling!r}, wanted fixed: with secure-aggregation one more "
                "client can open the sum of several, and noise would have to hide them all"
            )
        self.owner_exits = owner_exits
        self.weighting = weighting
        self.max_update_norm = bound.norm
        self.value_range = bound.norm or quantise.VALUE_RANGE
        self.min_trainers = min_trainers
        self.max_weight = 1.0 if weighting in AT_MOST_ONE else max_weight
        self.timeout = timeout
        self.dishonest: set[int] = set()  # nodes that are asked no more
        self._exchange: KeyExchange | None = None
        self._tensors: dict[int, list[str]] = {}

    def agree(
        self, grid: Grid, server_round: int, nodes: list[Node], report: RoundReport
    ) -> list[Node]:
        """Let the nodes of a round agree on keys; return those that did, in the same order."""
        asked = {node.id: node for node in nodes if node.id not in self.dishonest}
        self._exchange = KeyExchange(
            grid, server_round, self.min_trainers, self.timeout, report, asked
        )
        self._exchange.run()
        return [node for node in nodes if node.id in self._exchange.nodes]

    def request(self, trained: ArrayRecord) -> dict[str, Any]:
        """Return what the round's training requests carry besides.

        Parameters
        ----------
        trained : ArrayRecord
            All tensors that clients train.

        Raises
        ------
        ValueError
            If one of them is not floating.
        """
        exchange = self._round()
        for name, array in trained.items():
            if not wire.is_real(array.dtype):
                raise ValueError(
                    f"secure-aggregation: {name}: found {array.dtype}, wanted a floating tensor"
                )
        blocks = {
            block: sorted(name for name in trained if self.owner_exits[name] == block)
            for block in exchange.group.open_blocks(exchange.ids, self.min_trainers)
        }
        if exchange.nodes and len(blocks) <= max(self.owner_exits.values()):
            log(INFO, "round %d: exits from %d keep their values: fewer than %d clients hold them",
                exchange.server_round, len(blocks), self.min_trainers)  # fmt: skip
        self._tensors = {b: [f"{BLOCK_WEIGHT}{b}", *names] for b, names in blocks.items()}
        return {
            PARTICIPANTS: exchange.ids,
            WEIGHTING: self.weighting,
            MAX_WEIGHT: self.max_weight,
            VALUE_RANGE: self.value_range,
            MAX_UPDATE_NORM: self.max_update_norm,
            **{f"{BLOCK_TENSORS}{block}": names for block, names in blocks.items()},
        }

    def masked(self, capacity: int, trained: ArrayRecord) -> ArrayRecord:
        """Return types and shapes of what a client of that capacity returns; without values."""
        shapes = {name: tuple(array.shape) for name, array in trained.items()}
        return ArrayRecord(
            {
                name: Array("uint32", shapes.get(name, (1,)), "numpy.ndarray", b"")
                for block, names in self._tensors.items()
                if block <= capacity
                for name in names
            }
        )

    def sum(self, mean: PartialMean) -> MaskedSum:
        """Return the empty sum of the round's masked tensors, which ends in ``mean``."""
        exchange = self._round()
        clients = max(1, len(exchange.nodes))
        quantiser = quantise.Quantiser(self.value_range, self.max_weight, clients)
        return MaskedSum(exchange, quantiser, self._tensors, mean, self.dishonest)

    def _round(self) -> KeyExchange:
        assert self._exchange is not None, "the clients have not agreed on keys"
        return self._exchange
