"""Combine the clients' metrics of a round into one record, exit by exit."""

from flwr.app import MetricRecord, RecordDict

from efmodel.protocol import (
    CAPACITY,
    CER,
    CHARACTER_ERRORS,
    CHARACTERS,
    LOSS,
    NUM_EXAMPLES,
    PEAK_MEMORY,
    SECONDS,
    SKIPPED,
    TRAIN_LOSS,
    WALL_SECONDS,
    WER,
    WORD_ERRORS,
    WORDS,
)

SUMS = (NUM_EXAMPLES, SECONDS, SKIPPED, WALL_SECONDS)
RATES = ((WER, WORD_ERRORS, WORDS), (CER, CHARACTER_ERRORS, CHARACTERS))  # errors per unit
# Not averaged: the counts become rates, and a capacity is for the server alone.
LEFT_OUT = (WORD_ERRORS, WORDS, CHARACTER_ERRORS, CHARACTERS, CAPACITY)


def aggregate(records: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Combine metrics: numbers, or lists of one number per exit up to the client's capacity.

    A metric that no client sent is not in the result.

    ======================================== ====================================================
    ``SUMS`` and ``weighted_by_key``         the sum over the clients
    ``PEAK_MEMORY``                          the maximum
    ``WER``, ``CER``                         at each exit the sum of errors over the sum of words
                                             or characters, of the clients that reach it
    any other, such as a loss                at each exit the mean over the clients that reach it,
                                             weighted by ``weighted_by_key``; a number stays one
    ======================================== ====================================================
    """
    metrics = [next(iter(record.metric_records.values())) for record in records]
    result = MetricRecord()
    for key in dict.fromkeys(key for each in metrics for key in each):
        numbers = [float(v) for m in metrics if isinstance(v := m.get(key), int | float)]
        if key in (*SUMS, weighted_by_key):
            result[key] = sum(numbers)
        elif key == PEAK_MEMORY:
            result[key] = max(numbers, default=0.0)
        elif key not in LEFT_OUT:
            pairs = [(_per_exit(m, key), _weight(m, key, weighted_by_key)) for m in metrics]
            means = _weighted(pairs)
            # The run's log and its plots read a training loss per exit.
            single = len(numbers) == sum(key in m for m in metrics) and key != TRAIN_LOSS
            if means:
                result[key] = means[0] if single else means
    for name, errors, units in RATES:
        counted = [(_per_exit(m, errors), sum(_per_exit(m, units))) for m in metrics]
        rates = _weighted([([e / n for e in found], n) for found, n in counted if n])
        if rates:
            result[name] = rates
    return result


def _per_exit(metrics: MetricRecord, key: str) -> list[float]:
    value = metrics.get(key, [])
    return [float(x) for x in (value if isinstance(value, list) else [value])]


def _weight(metrics: MetricRecord, key: str, weighted_by_key: str) -> float:
    """Return a client's weight in the mean of a metric."""
    if key == LOSS and metrics.get(WORDS) == 0:  # it has no held-out speech
        return 0.0
    return sum(_per_exit(metrics, weighted_by_key))


def _weighted(pairs: list[tuple[list[float], float]]) -> list[float]:
    """Return the weighted mean at each exit, over the lists that reach it with a weight above 0."""
    counting = [(values, weight) for values, weight in pairs if weight > 0]
    depth = max((len(values) for values, _ in counting), default=0)
    means = []
    for exit in range(depth):
        reached = [(values[exit], weight) for values, weight in counting if len(values) > exit]
        means.append(sum(v * w for v, w in reached) / sum(w for _, w in reached))
    return means
