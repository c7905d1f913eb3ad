"""What happened in one round, as the strategy saw it."""

import math
from dataclasses import dataclass, field
from logging import WARNING

from flwr.app import MetricRecord
from flwr.common import log

from efmodel.protocol import SECONDS, WALL_SECONDS


@dataclass(frozen=True)
class Contribution:
    """What one client did in a round; 0 for the metrics that it does not report."""

    capacity: int  # the deepest exit that it trained
    bytes_down: int
    bytes_up: int
    wall_seconds: float
    audio_seconds: float

    @classmethod
    def of(cls, capacity: int, down: int, up: int, metrics: MetricRecord) -> "Contribution":
        """Return the contribution of an accepted reply; metrics that are no numbers count as 0."""
        values = [metrics.get(key) for key in (WALL_SECONDS, SECONDS)]
        wall, audio = (
            round(float(x), 3) if isinstance(x, int | float) and math.isfinite(x) else 0.0
            for x in values
        )
        return cls(capacity, down, up, wall, audio)


@dataclass
class RoundReport:
    """Who took part in a round. Nodes are named as they name themselves, or by their id."""

    round: int = 0
    unmet: dict[str, str] = field(default_factory=dict)  # node: why its query failed
    sampled: dict[str, int] = field(default_factory=dict)  # node: the capacity it was asked for
    accepted: dict[str, Contribution] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # node: why its reply was left out
    spare: list[str] = field(default_factory=list)  # asked, but not needed: others were faster
    bytes_down: int = 0  # of messages beside those of the training
    bytes_up: int = 0

    def leave_out(self, node: str, reason: str) -> None:
        """Note, and log, why a node's reply is left out."""
        self.failed[node] = reason
        log(WARNING, "round %d: %s left out: %s", self.round, node, reason)

    def reject_all(self, reason: str) -> None:
        """Note that no accepted reply can be used after all."""
        for node in list(self.accepted):
            del self.accepted[node]
            self.leave_out(node, reason)

    def close(self, wanted: int) -> None:
        """Note the nodes that have not replied: spare if enough others have, or too late."""
        enough = len(self.accepted) >= wanted
        for node in sorted(self.sampled.keys() - self.accepted.keys() - self.failed.keys()):
            if enough:
                self.spare.append(node)
            else:
                self.leave_out(node, "no reply in time")

    def trainers(self, num_exits: int) -> list[int]:
        """Return how many accepted clients trained each exit, shallow to deep."""
        depths = [client.capacity for client in self.accepted.values()]
        return [sum(depth >= exit for depth in depths) for exit in range(1, num_exits + 1)]
