"""What a client weighs in the mean."""

from collections.abc import Callable

from flwr.app import MetricRecord

from server_app.strategy.reply import BadReplyError, mean_of, number

MOST_EXAMPLES = 10_000_000  # no device holds more utterances; whoever says so would own the mean


def weight_of(weighting: str, metrics: MetricRecord, examples: float, capacity: int) -> float:
    """Return w_k, above 0, of one client.

    ======== ==================================================================================
    examples n, its training utterances
    seconds  its training speech in seconds
    uniform  1
    depth    n times its capacity (arXiv 2603.21888)
    loss     1 / (1 + its training loss), the mean over its exits
    wer      1 / (1 + WER), of the model it was sent on its own held-out speech, the mean over its
             exits; a client that holds nothing out counts as WER 1
    ======== ==================================================================================

    The last two are like the quality weights of Gao et al. (arXiv 2104.14297), but in place of
    their softmax a function that needs no other client's value, so that a reply can be folded in as
    it comes, and that gives a loss of 300 still a weight.

    Raises
    ------
    BadReplyError
        If the metric is missing or no usable number.
    """
    return WEIGHTINGS[weighting](metrics, examples, capacity)


def _wer(metrics: MetricRecord) -> float:
    if not metrics.get("words"):
        return 1.0
    return mean_of(metrics, "word-errors") / number(metrics, "words")


WEIGHTINGS: dict[str, Callable[[MetricRecord, float, int], float]] = {
    "examples": lambda metrics, examples, capacity: examples,
    "seconds": lambda metrics, examples, capacity: number(metrics, "seconds"),
    "uniform": lambda metrics, examples, capacity: 1.0,
    "loss": lambda metrics, examples, capacity: 1 / (1 + mean_of(metrics, "train-loss")),
    "wer": lambda metrics, examples, capacity: 1 / (1 + _wer(metrics)),
    "depth": lambda metrics, examples, capacity: examples * capacity,
}


def examples_of(metrics: MetricRecord, key: str) -> float:
    """Return a client's number of training examples.

    Raises
    ------
    BadReplyError
        If it is missing, no number above 0, or absurd.
    """
    examples = number(metrics, key)
    if examples > MOST_EXAMPLES:
        raise BadReplyError(f"{key}: found {examples:g}, wanted at most {MOST_EXAMPLES}")
    return examples
