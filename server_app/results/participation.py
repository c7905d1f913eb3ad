"""What each node did in a run so far: rounds joined, seconds, bytes, failures, capacity."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Participation:
    """One node over the rounds of a run."""

    asked: int = 0  # rounds
    joined: int = 0
    wall_seconds: float = 0.0
    audio_seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    failures: dict[int, str] = field(default_factory=dict)  # round: why
    capacities: dict[int, int] = field(default_factory=dict)  # round: what it was asked to train

    def history(self) -> str:
        """Say how the capacity changed, such as "3, from round 5 on 2"."""
        steps: list[str] = []
        last = None
        for number, capacity in self.capacities.items():
            if capacity != last:
                steps.append(f"from round {number} on {capacity}" if steps else str(capacity))
            last = capacity
        return ", ".join(steps)


def participations(rounds: Iterable[dict[str, Any]]) -> dict[str, Participation]:
    """Return what ``metrics.jsonl`` says of each node, by name."""
    nodes: dict[str, Participation] = {}
    for record in rounds:
        for name, capacity in record["capacities"].items():
            node = nodes.setdefault(name, Participation())
            node.asked += 1
            node.capacities[record["round"]] = capacity
        for name, reason in record["failures"].items():
            nodes.setdefault(name, Participation()).failures[record["round"]] = reason
        for name, did in record.get("nodes", {}).items():  # earlier versions wrote none
            node = nodes[name]
            node.joined += 1
            node.wall_seconds += did["wall_seconds"]
            node.audio_seconds += did["audio_seconds"]
            node.bytes_down += did["bytes_down"]
            node.bytes_up += did["bytes_up"]
    return dict(sorted(nodes.items()))
