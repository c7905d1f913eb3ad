"""Combine the clients' metrics of a round into one record, exit by exit."""

from typing import cast

from flwr.app import MetricRecord, RecordDict

from efmodel.protocol import (
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


def aggregate(records: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Combine metrics whose lists have one number per exit up to the client's capacity.

    The loss at an exit is the mean over the clients that reach it, weighted by
    ``weighted_by_key``.
    The error rate at an exit is the sum of these clients' errors over the sum of their words or
    characters.
    """
    metrics = [next(iter(record.metric_records.values())) for record in records]
    result = MetricRecord()
    for name in SUMS:
        result[name] = sum(float(cast(float, m.get(name, 0.0))) for m in metrics)
    result[PEAK_MEMORY] = max(float(cast(float, m.get(PEAK_MEMORY, 0.0))) for m in metrics)
    for name in (TRAIN_LOSS, LOSS):
        pairs = [(_per_exit(m, name), float(cast(float, m[weighted_by_key]))) for m in metrics]
        if means := _weighted(pairs):
            result[name] = means
    for name, errors, units in RATES:
        counted = [(m, float(cast(float, m[units]))) for m in metrics if m.get(units)]
        rates = [([e / n for e in _per_exit(m, errors)], n) for m, n in counted]
        if means := _weighted(rates):
            result[name] = means
    return result


def _per_exit(metrics: MetricRecord, name: str) -> list[float]:
    value = metrics.get(name, [])
    return [float(x) for x in value] if isinstance(value, list) else []


def _weighted(pairs: list[tuple[list[float], float]]) -> list[float]:
    """Return the weighted mean at each exit, over the lists that reach it."""
    depth = max((len(values) for values, _ in pairs), default=0)
    means = []
    for exit in range(depth):
        reached = [(values[exit], weight) for values, weight in pairs if len(values) > exit]
        means.append(sum(v * w for v, w in reached) / sum(w for _, w in reached))
    return means
