"""What a process that only listens takes. Nothing here imports torch: an exported model needs none.

Each function is called in a process of its own (:mod:`simulation.bench.process`).
"""

import os
from time import perf_counter
from typing import TypedDict

from simulation.bench.process import peak_memory_bytes

LINPACK_SIZE = 3000
REPEATS = 3


class Measured(TypedDict):
    """What one process took.

    Attributes
    ----------
    start : float
        Seconds until the model was loaded, imports included.
    exits : list of float
        Seconds per second of audio to reach each exit, its head and those on the way included.
    auto : float
        The same for the exits at which the speech stops by itself; 0 where there was none.
    peak : float
        Largest memory of the process, in MB, with 30 s of audio among the recordings.
    """

    start: float
    exits: list[float]
    auto: float
    peak: float


def measure(folder: str, threads: int, longest: str, speech: list[str]) -> Measured:
    """Measure the recogniser in a folder.

    Parameters
    ----------
    folder : str
        A saved or an exported model.
    threads : int
        That it may use.
    longest : str
        A recording of 30 s, which goes through all of the model.
    speech : list of str
        Recordings for adaptive exits; none if the model was not calibrated.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    began = perf_counter()
    from efmodel.decoding.recogniser import Recogniser
    from efmodel.decoding.stages import MEASURED, stage_costs

    recogniser = Recogniser.from_pretrained(folder, "auto" if speech else None)
    start = perf_counter() - began
    exits, reached = [], 0.0
    for cost in stage_costs(recogniser.engine):
        reached += cost.of(MEASURED[1]) / MEASURED[1]
        exits.append(reached)
    Recogniser(recogniser.engine, recogniser.tokens).transcribe(longest)
    results = [recogniser.transcribe(file) for file in speech]
    auto = sum(each.seconds * exits[each.exit - 1] for each in results)
    auto /= sum(each.seconds for each in results) or 1.0
    return {"start": start, "exits": exits, "auto": auto, "peak": peak_memory_bytes() / 1e6}


def linpack() -> float:
    """Return the speed of one core at solving linear equations: 10^9 operations a second."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((LINPACK_SIZE, LINPACK_SIZE))
    right = generator.standard_normal(LINPACK_SIZE)
    times = []
    for _ in range(REPEATS):
        began = perf_counter()
        np.linalg.solve(matrix, right)
        times.append(perf_counter() - began)
    return (2 / 3 * LINPACK_SIZE**3 + 2 * LINPACK_SIZE**2) / min(times) / 1e9
