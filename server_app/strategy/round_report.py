"""What happened in one round, as the strategy saw it."""

from dataclasses import dataclass, field


@dataclass
class RoundReport:
    """Who took part in a round. Nodes are named by what they call themselves, or by their id."""

    unmet: dict[str, str] = field(default_factory=dict)  # node: why its query failed
    sampled: dict[str, int] = field(default_factory=dict)  # node: capacity it was sent
    accepted: dict[str, int] = field(default_factory=dict)  # node: capacity it trained
    failed: dict[str, str] = field(default_factory=dict)  # node: error, or why it was dropped
    spare: list[str] = field(default_factory=list)  # asked, but enough others were faster

    def trainers(self, num_exits: int) -> list[int]:
        """Return how many accepted clients trained each exit, shallow to deep."""
        return [sum(c >= exit for c in self.accepted.values()) for exit in range(1, num_exits + 1)]
