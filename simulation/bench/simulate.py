"""The time of a simulated round against the compute of its clients, and where the rest goes.

On two cores two clients train at a time, one on each core. Without any overhead a round would take
half the sum of its clients' ``wall-seconds``.
"""

import heapq
import os
from typing import Any

from simulation.bench.federation import simulated
from simulation.bench.figure import Figure

ROUNDS = 5
FRACTIONS = (0.5, 1.0)  # of the sample's 18 voices, which train in a round
COMPUTE = "the clients' own compute"


def run(rounds: int = ROUNDS, fractions: tuple[float, ...] = FRACTIONS, *more: str) -> list[Figure]:
    """Measure the preset ``tiny`` on the sample, with round 1 apart from the later rounds.

    ``more`` are further arguments of ``ef-asr simulate``.
    """
    actors = len(os.sched_getaffinity(0))
    figures = []
    for fraction in fractions:
        keys = (f"fraction-train={fraction}", f"evaluate-every={rounds}", "lr-schedule=constant")
        options = [word for key in keys for word in ("--set", key)]
        federation = simulated("--rounds", str(rounds), *options, *more)
        figures += of_rounds(federation.rounds, actors)
        in_rounds = sum(r["train-seconds"] + r["evaluate-seconds"] for r in federation.rounds)
        figures.append(
            Figure("the whole command", federation.seconds, in_rounds, "s", "its rounds, evaluated")
        )
    return figures


def of_rounds(rounds: list[dict[str, Any]], actors: int) -> list[Figure]:
    """Return the figures of recorded rounds in which ``actors`` clients train at a time."""
    first, later = rounds[0], rounds[1:]
    clients = sum(record["answered"] for record in later)
    wall = actors * sum(record["train-seconds"] for record in later)
    compute = sum(map(_compute, later))
    scheduled = actors * sum(longest(_durations(record), actors) for record in later)
    what = f"tiny, {first['sampled']} clients a round"
    return [
        Figure(f"{what}: time on all cores, later rounds", wall, compute, "s", COMPUTE),
        Figure(f"{what}: of it with cores idle at the end", scheduled, compute, "s", COMPUTE),
        Figure(f"{what}: time on all cores, round 1", actors * first["train-seconds"],
               _compute(first), "s", COMPUTE),
        Figure(f"{what}: clients a minute", 60 * actors * clients / wall,
               60 * actors * clients / compute, "", COMPUTE),
    ]  # fmt: skip


def longest(durations: list[float], actors: int) -> float:
    """Return when the last job ends, if each in turn goes to the actor that is free first."""
    free = [0.0] * actors
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _durations(record: dict[str, Any]) -> list[float]:
    """Return the seconds of each client that replied, in the order of the messages sent."""
    nodes = record["nodes"]
    return [nodes[name]["wall_seconds"] for name in record["capacities"] if name in nodes]


def _compute(record: dict[str, Any]) -> float:
    return sum(_durations(record))
