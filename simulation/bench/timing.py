"""Timing calls that are compared with one another."""

import statistics
import time
from collections.abc import Callable, Sequence

from rich.progress import track


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_seconds_in_turns(
    calls: Sequence[Callable[[], object]], repeats: int, progress: str
) -> list[float]:
    """Return each call's median seconds over ``repeats`` turns, after one turn to warm up.

    The calls take turns, so that the load of other programs on the machine affects all of them.
    ``progress`` labels the progress bar.
    """
    durations: list[list[float]] = [[] for _ in calls]
    for turn in track(range(1 + repeats), progress, transient=True):
        for call, own_durations in zip(calls, durations, strict=True):
            duration = seconds(call)
            if turn > 0:
                own_durations.append(duration)
    return [statistics.median(own_durations) for own_durations in durations]
