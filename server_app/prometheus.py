"""How a run is going, in a file that Prometheus's node_exporter reads (textfile collector)."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from efmodel import atomic_file
from server_app.results.participation import participations
from server_app.run_folder import RunFolder, read_metrics

PREFIX = "ef_asr_"


def write(folder: RunFolder, rounds: int) -> None:
    """Write ``metrics.prom`` anew, whole, after a round; ``rounds`` are all that are wanted."""
    records = read_metrics(folder.metrics)
    last = records[-1]
    registry = CollectorRegistry()

    def gauge(
        name: str, meaning: str, values: Iterable[tuple[str, float]], label: str = ""
    ) -> None:
        made = Gauge(PREFIX + name, meaning, [label] if label else [], registry=registry)
        for key, value in values:
            (made.labels(key) if label else made).set(value)

    def exits(values: list[float]) -> list[tuple[str, float]]:
        return [(str(exit), value) for exit, value in enumerate(values, start=1)]

    gauge("round", "Last round that ended", [("", last["round"])])
    gauge("rounds", "Rounds wanted", [("", rounds)])
    made = Gauge(PREFIX + "round_end_seconds", "When it ended, Unix time", registry=registry)
    made.set_to_current_time()
    for key in ("sampled", "answered", "failed"):
        gauge(f"clients_{key}", f"Clients {key} in the last round", [("", last[key])])
    moved = sum(each["bytes-down"] + each["bytes-up"] for each in records)
    gauge("bytes", "Bytes of tensors exchanged so far", [("", moved)])
    gauge("trainers", "Clients that trained an exit", exits(last["trainers-per-exit"]), "exit")
    losses = last["clients"].get("train-loss", [])
    gauge("train_loss", "Training loss of the last round", exits(losses), "exit")
    evaluated = next((each for each in reversed(records) if each["wer"]), None)
    if evaluated:
        gauge("wer", "Word error rate, last evaluation", exits(evaluated["wer"]), "exit")
        gauge("cer", "Character error rate, last evaluation", exits(evaluated["cer"]), "exit")
    nodes = participations(records)
    gauge("node_rounds", "Rounds joined", [(n, p.joined) for n, p in nodes.items()], "node")
    gauge("node_failures", "Rounds lost", [(n, len(p.failures)) for n, p in nodes.items()], "node")
    capacities = [(n, list(p.capacities.values())[-1]) for n, p in nodes.items() if p.capacities]
    gauge("node_capacity", "Capacity when last asked", capacities, "node")
    atomic_file.write(folder.status, generate_latest(registry))
