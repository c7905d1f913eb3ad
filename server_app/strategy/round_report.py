"""What happened in one round, as the strategy saw it."""

import math
from dataclasses import dataclass, field

from flwr.app import MetricRecord


@dataclass(frozen=True)
class Contribution:
    """What one client did in a round, as far as it says; 0 for what it does not say."""

    capacity: int  # the deepest exit that it trained
    bytes_down: int
    bytes_up: int
    wall_seconds: float
    audio_seconds: float

    @classmethod
    def of(cls, capacity: int, down: int, up: int, metrics: MetricRecord) -> "Contribution":
        """Return what a reply says of its client; what it says is not to be trusted."""
        said = [metrics.get(key) for key in ("wall-seconds", "seconds")]
        wall, audio = (
            round(float(x), 3) if isinstance(x, int | float) and math.isfinite(x) else 0.0
            for x in said
        )
        return cls(capacity, down, up, wall, audio)


@dataclass
class RoundReport:
    """Who took part in a round. Nodes are named by what they call themselves, or by their id."""

    unmet: dict[str, str] = field(default_factory=dict)  # node: why its query failed
    sampled: dict[str, int] = field(default_factory=dict)  # node: capacity it was sent
    accepted: dict[str, Contribution] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # node: error, or why it was dropped
    spare: list[str] = field(default_factory=list)  # asked, but enough others were faster

    def trainers(self, num_exits: int) -> list[int]:
        """Return how many accepted clients trained each exit, shallow to deep."""
        depths = [each.capacity for each in self.accepted.values()]
        return [sum(depth >= exit for depth in depths) for exit in range(1, num_exits + 1)]
