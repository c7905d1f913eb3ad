"""A client's weight in the average, computed from the metrics of its reply."""

import math
from collections.abc import Callable

from flwr.app import MetricRecord

from efmodel.protocol import SECONDS, TRAIN_LOSS, WORD_ERRORS, WORDS

MOST_EXAMPLES = (
    10_000_000  # no device holds more utterances; a larger number would dominate the mean
)
AT_MOST_ONE = ("uniform", "loss", "wer")  # weightings whose weights never exceed 1


class MetricError(ValueError):
    """A metric that a weight needs is missing or not a valid number."""


def number(metrics: MetricRecord, key: str) -> float:
    """Return a metric that must be one finite number above 0."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise MetricError(f"{key}: found {value!r}, wanted a number above 0")
    return float(value)


def mean_of(metrics: MetricRecord, key: str) -> float:
    """Return the mean of a metric: finite numbers from 0, one per exit, or a single number."""
    value = metrics.get(key)
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and 0 <= v < math.inf]
    if numbers and len(numbers) == len(values):
        return sum(numbers) / len(numbers)
    raise MetricError(f"{key}: found {value!r}, wanted numbers from 0, one per exit")


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
    MetricError
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
    MetricError
        If it is missing, not a number above 0, or more than ``MOST_EXAMPLES``.
    """
    examples = number(metrics, key)
    if examples > MOST_EXAMPLES:
        raise MetricError(f"{key}: found {examples:g}, wanted at most {MOST_EXAMPLES}")
    return examples
