"""The clients' metrics of a round as one record, exit by exit."""

from typing import cast

from flwr.app import MetricRecord, RecordDict

COUNTS = ("word-errors", "character-errors")


def aggregate(records: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Aggregate metrics whose lists are as long as the client's capacity.

    Losses per exit are means over the clients that reached it, weighted by ``weighted_by_key``;
    errors per exit are summed and divided by the words (characters) of those same clients.
    """
    metrics = [next(iter(record.metric_records.values())) for record in records]
    result = MetricRecord()
    for name in ("num-examples", "seconds", "skipped", "wall-seconds"):
        result[name] = sum(float(cast(float, m.get(name, 0.0))) for m in metrics)
    result["peak-memory"] = max(float(cast(float, m.get("peak-memory", 0.0))) for m in metrics)
    for name in ("train-loss", "loss"):
        pairs = [(_per_exit(m, name), float(cast(float, m[weighted_by_key]))) for m in metrics]
        if means := _weighted(pairs):
            result[name] = means
    for name, errors, units in (("wer", COUNTS[0], "words"), ("cer", COUNTS[1], "characters")):
        counted = [(m, float(cast(float, m[units]))) for m in metrics if m.get(units)]
        rates = [([e / n for e in _per_exit(m, errors)], n) for m, n in counted]
        if means := _weighted(rates):
            result[name] = means
    return result


def _per_exit(metrics: MetricRecord, name: str) -> list[float]:
    value = metrics.get(name, [])
    return [float(x) for x in value] if isinstance(value, list) else []


def _weighted(pairs: list[tuple[list[float], float]]) -> list[float]:
    """Return the weighted mean at each place, over the lists that reach it."""
    depth = max((len(values) for values, _ in pairs), default=0)
    means = []
    for place in range(depth):
        reached = [(values[place], weight) for values, weight in pairs if len(values) > place]
        means.append(sum(v * w for v, w in reached) / sum(w for _, w in reached))
    return means
