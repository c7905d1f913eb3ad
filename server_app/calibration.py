"""Federated calibration of adaptive exits: thresholds from the counts of clients.

A server without speech cannot try an exit policy. The clients that hold the whole model count, on
speech that they did not train on, how often each exit is wrong and how sure it is. The sum of
their counts gives the thresholds that their pooled speech would give.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING

import numpy as np
from flwr.app import Message, MessageType
from flwr.common import log
from numpy.typing import NDArray

from efmodel.config import EarlyExitConfig
from efmodel.decoding.calibration import BINS, COUNTED, thresholds
from efmodel.decoding.policy import SCORES
from efmodel.model.compute import multiply_adds
from efmodel.protocol import HISTOGRAM, METRICS
from efmodel.settings import tolerance
from server_app.strategy.reply import BadReplyError
from server_app.survey import Survey

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

    @classmethod
    def of(cls, counted: Collection[Histograms]) -> "Calibration":
        """Return the sum of the histograms of at least one client."""
        return cls({n: np.sum([each[n] for each in counted], 0) for n in SCORES}, len(counted))

    @property
    def utterances(self) -> int:
        """Utterances that were counted."""
        return int(next(iter(self.histograms.values()))[0, :, 0].sum())

    def thresholds(self, config: EarlyExitConfig, allowed: float) -> dict[str, list[float]]:
        """Return the thresholds of each score for a tolerance."""
        costs = multiply_adds(config)
        return {name: thresholds(each, costs, allowed) for name, each in self.histograms.items()}


def calibrate(survey: Survey) -> dict[str, list[float]] | None:
    """Return the thresholds of each score, from the counts of the nodes that hold the whole model.

    None, with a reason in the log, where ``calibrate`` is off, where the privacy keys promise noise
    on what leaves a node, or where no node has counted anything.
    """
    settings, config = survey.settings, survey.model.config
    allowed = tolerance(settings.calibrate)
    if allowed is None or config.num_exits == 1:
        return None
    if settings.has_noise:
        log(INFO, "calibration: left out, its counts would leave the clients without noise")
        return None
    counted = survey.ask(
        "calibration", MessageType.EVALUATE, read_histograms,
        only=lambda node: node.capacity == config.num_exits,
    )  # fmt: skip
    found = Calibration.of(counted.values()) if counted else None
    if not (found and found.utterances):
        log(WARNING, "calibration: no client with the whole model counted anything")
        return None
    log(INFO, "calibration: thresholds from %d held-out utterances of %d clients",
        found.utterances, found.clients)  # fmt: skip
    return found.thresholds(config, allowed)


def read_histograms(reply: Message, num_exits: int) -> Histograms:
    """Return the histograms, by score, of a node that holds that many exits.

    Raises
    ------
    BadReplyError
        If one of them cannot be true.
    """
    metrics: Mapping[str, object] = reply.content.metric_records.get(METRICS, {})
    shape = (num_exits - 1, BINS, COUNTED)
    histograms: Histograms = {}
    for name in SCORES:
        values = metrics.get(HISTOGRAM + name)
        if not isinstance(values, list) or len(values) != np.prod(shape):
            raise BadReplyError(f"found no {np.prod(shape)} counts of {name}")
        if not all(type(value) is int and 0 <= value < 2**40 for value in values):
            raise BadReplyError(f"found no numbers of utterances and words in {name}")
        histograms[name] = np.array(values, np.int64).reshape(shape)
    if not _are_of_the_same_utterances(list(histograms.values())):
        raise BadReplyError("found no counts that add up")
    return histograms


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
