"""The state of a run in a file for Prometheus's node_exporter (textfile collector)."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from efmodel import atomic_file
from server_app.results.participation import participations
from server_app.run_folder import RunFolder, read_metrics

PREFIX = "ef_asr_"


def write(folder: RunFolder, rounds: int) -> None:
    """Replace ``metrics.prom`` after a round; ``rounds`` is the number of rounds of the run."""
    records = read_metrics(folder.metrics)
    last = records[-1]
    registry = CollectorRegistry()

    def gauge(
        name: str, meaning: str, values: Iterable[tuple[str, float]], label: str = ""
    ) -> None:
        metric = Gauge(PREFIX + name, meaning, [label] if label else [], registry=registry)
        for key, value in values:
            (metric.labels(key) if label else metric).set(value)

    def exits(values: list[float]) -> list[tuple[str, float]]:
        return [(str(exit), value) for exit, value in enumerate(values, start=1)]

    gauge("round", "Last round that ended", [("", last["round"])])
    gauge("rounds", "Rounds of the run", [("", rounds)])
    ended = Gauge(PREFIX + "round_end_seconds", "When it ended, Unix time", registry=registry)
    ended.set_to_current_time()
    for key in ("sampled", "answered", "failed"):
        gauge(f"clients_{key}", f"Clients {key} in the last round", [("", last[key])])
    exchanged = sum(record["bytes-down"] + record["bytes-up"] for record in records)
    gauge("bytes", "Bytes of tensors exchanged so far", [("", exchanged)])
    gauge("trainers", "Clients that trained an exit", exits(last["trainers-per-exit"]), "exit")
    losses = last["clients"].get("train-loss", [])
    gauge("train_loss", "Training loss of the last round", exits(losses), "exit")
    evaluated = next((record for record in reversed(records) if record["wer"]), None)
    if evaluated:
        gauge("wer", "Word error rate, last evaluation", exits(evaluated["wer"]), "exit")
        gauge("cer", "Character error rate, last evaluation", exits(evaluated["cer"]), "exit")
    spent = last.get("privacy", {})
    gauge("epsilon", "Epsilon spent", [(k, v["epsilon"]) for k, v in spent.items()], "privacy")
    nodes = participations(records)
    gauge("node_rounds", "Rounds joined", [(n, p.joined) for n, p in nodes.items()], "node")
    gauge("node_failures", "Rounds lost", [(n, len(p.failures)) for n, p in nodes.items()], "node")
    capacities = [(n, list(p.capacities.values())[-1]) for n, p in nodes.items() if p.capacities]
    gauge("node_capacity", "Capacity when last asked", capacities, "node")
    atomic_file.write(folder.status, generate_latest(registry))
