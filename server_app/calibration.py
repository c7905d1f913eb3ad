"""Federated calibration of adaptive exits: thresholds from the counts of clients.

A server without speech cannot try an exit policy. The clients that hold the whole model count, on
speech that they did not train on, how often each exit is wrong and how sure it is. The sum of
their counts gives the thresholds that their pooled speech would give.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from logging import INFO, WARNING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from numpy.typing import NDArray

from efmodel.config import EarlyExitConfig
from efmodel.decoding.calibration import BINS, COUNTED, thresholds
from efmodel.decoding.policy import SCORES
from efmodel.model.compute import multiply_adds
from efmodel.protocol import ARRAYS, CAPACITY, CONFIG, HISTOGRAM, METRICS, SERVER_ROUND
from efmodel.settings import Settings, tolerance
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.node import Node

Histograms = dict[str, NDArray[np.int64]]  # by score, each [E - 1, BINS, COUNTED]


@dataclass(frozen=True)
class Calibration:
    """Counts of clients.

    Attributes
    ----------
    histograms : dict
        Their sum, by score.
    clients : int
        How many clients they are from.
    """

    histograms: Histograms
    clients: int

    @property
    def utterances(self) -> int:
        """Utterances that were counted."""
        return int(next(iter(self.histograms.values()))[0, :, 0].sum())

    def thresholds(self, config: EarlyExitConfig, allowed: float) -> dict[str, list[float]]:
        """Return the thresholds of each score for a tolerance."""
        costs = multiply_adds(config)
        return {name: thresholds(each, costs, allowed) for name, each in self.histograms.items()}


def calibrate(
    grid: Grid,
    nodes: Sequence[Node],
    settings: Settings,
    request: ConfigRecord,
    arrays: ArrayRecord,
    config: EarlyExitConfig,
) -> dict[str, list[float]] | None:
    """Return the thresholds of each score, from the counts of the nodes that hold the whole model.

    None, with a reason in the log, where ``calibrate`` is off, where the privacy keys promise noise
    on what leaves a node, or where no node has counted anything.

    Parameters
    ----------
    grid : Grid
        Where the nodes are connected.
    nodes : Sequence of Node
        All nodes that are known.
    settings : Settings
        ``calibrate`` and ``round_timeout`` are used, and the privacy keys.
    request : ConfigRecord
        The model description that every request carries.
    arrays : ArrayRecord
        The trained model.
    config : EarlyExitConfig
        The whole model's.
    """
    allowed = tolerance(settings.calibrate)
    if allowed is None or config.num_exits == 1:
        return None
    if settings.has_noise:
        log(INFO, "calibration: left out, its counts would leave the clients without noise")
        return None
    whole = [node for node in nodes if node.capacity == config.num_exits]
    found = _counts(grid, whole, settings, request, arrays, config.num_exits)
    if found is None:
        log(WARNING, "calibration: no client with the whole model counted anything")
        return None
    chosen = found.thresholds(config, allowed)
    log(INFO, "calibration: thresholds from %d held-out utterances of %d clients",
        found.utterances, found.clients)  # fmt: skip
    return chosen


def _counts(
    grid: Grid,
    nodes: Sequence[Node],
    settings: Settings,
    request: ConfigRecord,
    arrays: ArrayRecord,
    num_exits: int,
) -> Calibration | None:
    """Return the sum of the nodes' histograms; None if there is none."""
    connected = set(grid.get_node_ids())
    asked = ConfigRecord({**request, CAPACITY: num_exits, SERVER_ROUND: settings.rounds})
    content = RecordDict({ARRAYS: arrays, CONFIG: asked})
    messages = [
        Message(content, dst_node_id=node.id, message_type=MessageType.EVALUATE)
        for node in nodes
        if node.id in connected
    ]
    total: Histograms = {}
    clients = 0
    with closing(exchange(grid, messages, settings.round_timeout, Traffic())) as replies:
        for reply in replies:
            if counted := read_histograms(reply, num_exits):
                total = {name: each + total.get(name, 0) for name, each in counted.items()}
                clients += 1
            else:
                reason = reply.error.reason if reply.has_error() else "found no counts that add up"
                log(WARNING, "calibration: node %d: %s", reply.metadata.src_node_id, reason)
    found = Calibration(total, clients)
    return found if clients and found.utterances else None


def read_histograms(reply: Message, num_exits: int) -> Histograms:
    """Return a reply's histograms by score; an empty dictionary if one of them cannot be true."""
    if reply.has_error():
        return {}
    metrics: Mapping[str, object] = reply.content.metric_records.get(METRICS, {})
    shape = (num_exits - 1, BINS, COUNTED)
    histograms: Histograms = {}
    for name in SCORES:
        values = metrics.get(HISTOGRAM + name)
        if not isinstance(values, list) or len(values) != np.prod(shape):
            return {}
        if not all(type(value) is int and 0 <= value < 2**40 for value in values):
            return {}
        histograms[name] = np.array(values, np.int64).reshape(shape)
    return histograms if _are_of_the_same_utterances(list(histograms.values())) else {}


def _are_of_the_same_utterances(histograms: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether the counts add up: scores sort the same utterances into different bins.

    Each exit has heard all utterances, and they have as many errors at the deepest exit; an empty
    bin has no errors.
    """
    totals = np.stack(histograms).sum(2)  # [scores, E - 1, COUNTED]
    of_all_exits = totals[..., [0, 2]]
    return bool(
        (totals == totals[0]).all()
        and (of_all_exits == of_all_exits[:, :1]).all()
        and all((counts[counts[..., 0] == 0] == 0).all() for counts in histograms)
    )
