"""What each node contributed to a run: rounds, seconds, bytes, failures and capacity."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Participation:
    """One node's totals over the rounds of a run."""

    asked: int = 0  # rounds in which the node was sampled
    joined: int = 0  # rounds in which its reply was used
    wall_seconds: float = 0.0
    audio_seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    failures: dict[int, str] = field(default_factory=dict)  # round: reason
    capacities: dict[int, int] = field(default_factory=dict)  # round: the exit it was asked for

    def history(self) -> str:
        """Describe how the capacity changed, for example "3, from round 5 on 2"."""
        changes: list[str] = []
        previous = None
        for number, capacity in self.capacities.items():
            if capacity != previous:
                changes.append(f"from round {number} on {capacity}" if changes else str(capacity))
            previous = capacity
        return ", ".join(changes)


def participations(rounds: Iterable[dict[str, Any]]) -> dict[str, Participation]:
    """Return each node's totals by node name, in order, from the records of ``metrics.jsonl``."""
    nodes: dict[str, Participation] = {}
    for record in rounds:
        for name, capacity in record["capacities"].items():
            node = nodes.setdefault(name, Participation())
            node.asked += 1
            node.capacities[record["round"]] = capacity
        for name, reason in record["failures"].items():
            nodes.setdefault(name, Participation()).failures[record["round"]] = reason
        for name, update in record.get("nodes", {}).items():  # early versions did not record these
            node = nodes[name]
            node.joined += 1
            node.wall_seconds += update["wall_seconds"]
            node.audio_seconds += update["audio_seconds"]
            node.bytes_down += update["bytes_down"]
            node.bytes_up += update["bytes_up"]
    return {name: nodes[name] for name in sorted(nodes, key=_natural_order)}


def _natural_order(name: str) -> list[str | int]:
    """Return a name's text and numbers in turn, so that node 2 comes before node 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
