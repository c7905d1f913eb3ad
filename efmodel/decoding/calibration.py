"""Finding the thresholds of exit policies from held-out speech, pooled or federated.

Of each utterance count: the exits' scores, the words that each exit gets wrong, and the words. A
histogram of scores for each exit holds enough of it to choose thresholds. Histograms of several
clients are added, so thresholds can be found without seeing their speech.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.policy import NEVER

# Upper edges of the bins: minus a score, which is 0 for certain. The last bin has no edge: an
# utterance in it never stops.
EDGES = np.geomspace(1e-4, 10.0, 51)
BINS = len(EDGES) + 1
COUNTED = 3  # in a bin: utterances, their word errors at this exit, and those at the deepest exit


@dataclass(frozen=True)
class Observations:
    """What the exits made of utterances whose words are known. U is the number of utterances.

    Attributes
    ----------
    scores : Mapping
        ``{score's name: [E, U]}``.
    errors : ndarray
        ``[E, U]``, the word errors at each exit.
    words : ndarray
        ``[U]``, the words that were said.
    seconds : ndarray
        ``[U]``, their duration.
    """

    scores: Mapping[str, NDArray[np.float64]]
    errors: NDArray[np.int64]
    words: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def histogram(self, name: str) -> NDArray[np.int64]:
        """Return ``[E - 1, BINS, COUNTED]``: the histogram of a score at each exit but the last."""
        num_exits = len(self.errors)
        counts = np.zeros((num_exits - 1, BINS, COUNTED), np.int64)
        for exit in range(num_exits - 1):
            bins = np.searchsorted(EDGES, -self.scores[name][exit], side="right")
            values = (np.ones_like(self.words), self.errors[exit], self.errors[-1])
            for what, value in enumerate(values):
                np.add.at(counts[exit, :, what], bins, value)
        return counts

    def stops(self, thresholds: Mapping[str, Sequence[float]]) -> NDArray[np.int64]:
        """Return the exit, from 1, at which each utterance stops, ``[U]``."""
        num_exits, count = self.errors.shape
        sure = np.ones((num_exits, count), bool)
        for name, at_exits in thresholds.items():
            sure[:-1] &= self.scores[name][:-1] > np.array(at_exits)[:, None]
        sure[-1] = True
        exits: NDArray[np.int64] = sure.argmax(0) + 1
        return exits

    def errors_at(self, exits: NDArray[np.int64]) -> int:
        """Return the word errors with each utterance at its own exit, ``[U]``, from 1."""
        return int(np.take_along_axis(self.errors, exits[None] - 1, 0).sum())


def thresholds(
    histogram: NDArray[np.int64], costs: Sequence[float], tolerance: float
) -> list[float]:
    """Return the threshold of each exit but the deepest, for the least compute.

    At each exit the utterances are taken from the most certain to the least. What they lose by
    stopping there, in word errors, is made a convex function of their number (isotonic regression:
    less certain is not better). All exits then stop the utterances that lose less than a common
    price for each multiply-add they save. The price is the highest at which the losses add up to at
    most ``tolerance`` times the deepest exit's errors. To add up the exits' losses without knowing
    single utterances, they are taken to be equally certain at every exit, one beside the other.

    Parameters
    ----------
    histogram : ndarray
        ``[E - 1, BINS, COUNTED]``, see :meth:`Observations.histogram`.
    costs : Sequence of float
        E numbers: what it takes to reach each exit, in multiply-adds or seconds.
    tolerance : float
        Word errors that may come on top of the deepest exit's, as a share of them.
    """
    stopped = histogram[..., 0].cumsum(1)  # [E - 1, BINS]
    lost = (histogram[..., 1] - histogram[..., 2]).cumsum(1)
    allowed = tolerance * histogram[0, :, 2].sum()
    savings = costs[-1] - np.array(costs[:-1])
    slopes = [_slopes(n, x) for n, x in zip(stopped, lost, strict=True)]
    ratios = [at[:-1] / saving for at, saving in zip(slopes, savings, strict=True)]
    chosen = [-1] * len(savings)
    for price in sorted({0.0, *np.concatenate(ratios).tolist()}):
        # The last bin of each exit has no upper edge: whoever is in it goes on.
        bins = [int(np.searchsorted(ratio, price, side="right")) - 1 for ratio in ratios]
        if _total_loss(bins, stopped, lost) <= allowed:
            chosen = bins
    return [-float(EDGES[bin]) if bin >= 0 else NEVER for bin in chosen]


def _slopes(stopped: NDArray[np.int64], lost: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the loss for each further utterance in each bin, made ascending, ``[BINS]``.

    The slopes of the greatest convex function below the points (utterances, loss); where a bin is
    empty it is that of the next one.
    """
    x, y = np.concatenate([[0], stopped]), np.concatenate([[0], lost])
    slopes = np.full(len(stopped), np.inf)
    at = 0
    while at < len(stopped):
        steps = x[at + 1 :] - x[at]
        with np.errstate(divide="ignore", invalid="ignore"):
            rises = np.where(steps > 0, (y[at + 1 :] - y[at]) / steps, np.inf)
        to = at + 1 + int(len(rises) - 1 - rises[::-1].argmin())
        slopes[at:to] = rises.min()
        at = to
    return slopes


def _total_loss(bins: Sequence[int], stopped: NDArray[np.int64], lost: NDArray[np.int64]) -> float:
    """Return the word errors that stopping up to those bins costs, exit after exit."""
    total, gone = 0.0, 0.0  # utterances that stopped at the exits before
    for exit, bin in enumerate(bins):
        here = float(stopped[exit, bin]) if bin >= 0 else 0.0
        if here > gone:
            x, y = np.concatenate([[0], stopped[exit]]), np.concatenate([[0], lost[exit]])
            total += float(y[bin + 1] - np.interp(gone, x, y))
            gone = here
    return total
