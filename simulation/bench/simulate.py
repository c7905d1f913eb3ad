"""What a simulated round takes beside its clients' own compute, and where the rest goes.

Two clients train at a time on two cores, one on each. Were nothing else to do, a round would take
half the sum of its clients' ``wall-seconds``.
"""

import heapq
import os
from typing import Any

from simulation.bench.federation import simulated
from simulation.bench.figure import Figure

ROUNDS = 5
SHARES = (0.5, 1.0)  # of the 18 voices of the sample
COMPUTE = "the clients' own compute"


def run(rounds: int = ROUNDS, shares: tuple[float, ...] = SHARES, *more: str) -> list[Figure]:
    """Measure ``tiny`` on the sample: round 1 apart, the others together.

    ``more`` are further arguments of ``ef-asr simulate``.
    """
    actors = len(os.sched_getaffinity(0))
    figures = []
    for share in shares:
        keys = (f"fraction-train={share}", f"evaluate-every={rounds}", "lr-schedule=constant")
        chosen = [part for key in keys for part in ("--set", key)]
        federation = simulated("--rounds", str(rounds), *chosen, *more)
        figures += of_rounds(federation.rounds, actors)
        inside = sum(each["train-seconds"] + each["evaluate-seconds"] for each in federation.rounds)
        figures.append(
            Figure("the whole command", federation.seconds, inside, "s", "its rounds, evaluated")
        )
    return figures


def of_rounds(rounds: list[dict[str, Any]], actors: int) -> list[Figure]:
    """Return what the rounds say, when that many clients train at a time."""
    first, later = rounds[0], rounds[1:]
    clients = sum(each["answered"] for each in later)
    wall = actors * sum(each["train-seconds"] for each in later)
    compute = sum(map(_compute, later))
    ends = actors * sum(longest(_durations(each), actors) for each in later)
    what = f"tiny, {first['sampled']} clients a round"
    return [
        Figure(f"{what}: time on all cores, later rounds", wall, compute, "s", COMPUTE),
        Figure(f"{what}: of it with cores idle at the end", ends, compute, "s", COMPUTE),
        Figure(f"{what}: time on all cores, round 1", actors * first["train-seconds"],
               _compute(first), "s", COMPUTE),
        Figure(f"{what}: clients a minute", 60 * actors * clients / wall,
               60 * actors * clients / compute, "", COMPUTE),
    ]  # fmt: skip


def longest(durations: list[float], actors: int) -> float:
    """Return when the last of several jobs ends, each taken in turn by who is free first."""
    free = [0.0] * actors
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _durations(record: dict[str, Any]) -> list[float]:
    """Return the clients' seconds in the order in which they were asked."""
    nodes = record["nodes"]
    return [nodes[name]["wall_seconds"] for name in record["capacities"] if name in nodes]


def _compute(record: dict[str, Any]) -> float:
    return sum(_durations(record))
