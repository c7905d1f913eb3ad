"""Running a batch stage by stage, until its exit policy says to stop. Only numpy is needed here."""

from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.policy import ExitOutput, ExitPolicy, StageCost
from efmodel.speech.resampling import SAMPLE_RATE, Samples

MEASURED = (1.0, 10.0)  # seconds of audio, to measure what each stage takes
REPEATS = 3


class Stages(Protocol):
    """A batch on its way through a model."""

    def advance(self, to: int | None = None) -> list[NDArray[np.float32]]:
        """Run the next stage, or all up to exit ``to``.

        Returns the exit's log-probabilities ``[frames, vocab]`` of each utterance on the way.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only: positions among those on the way."""


class Engine(Protocol):
    """A model that runs in stages, whatever library computes them.

    Attributes
    ----------
    num_exits : int
        E.
    exit_layers : sequence of int
        The layer after which each exit lies, shallow to deep.
    samples_per_frame : int
        Samples at 16 kHz from the start of one frame to that of the next.
    blank : int
        The label of CTC's blank.
    """

    num_exits: int
    exit_layers: Sequence[int]
    samples_per_frame: int
    blank: int

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a recording; 0 if it is too short for the model."""

    def start(self, batch: Sequence[Samples]) -> Stages:
        """Return the stages of a batch, none of which has run."""


def run(
    engine: Engine, batch: Sequence[Samples], policy: ExitPolicy
) -> list[tuple[int, ExitOutput]]:
    """Return the exit at which each utterance stopped, from 1, and what that exit gives.

    Where a policy never stops, the heads of the shallower exits do not run.

    Parameters
    ----------
    engine : Engine
        The model.
    batch : Sequence of ndarray
        Utterances ``[samples]`` of at least one frame.
    policy : ExitPolicy
        Decides for each utterance by itself; only a deadline sees the whole batch.
    """
    began = perf_counter()
    stages = engine.start(batch)
    if policy.never_stops:
        last = stages.advance(to=engine.num_exits)
        return [(engine.num_exits, ExitOutput(log_probs, engine.blank)) for log_probs in last]
    outputs: list[list[ExitOutput]] = [[] for _ in batch]
    on_the_way = list(range(len(batch)))
    for exit in range(1, engine.num_exits + 1):
        for row, log_probs in zip(on_the_way, stages.advance(), strict=True):
            outputs[row].append(ExitOutput(log_probs, engine.blank))
        if exit == engine.num_exits:
            break
        going = [i for i, row in enumerate(on_the_way) if not policy.is_sure(outputs[row])]
        on_the_way = [on_the_way[i] for i in going]
        seconds = padded_seconds([batch[row] for row in on_the_way])
        if not going or policy.is_late(exit, perf_counter() - began, seconds):
            break
        stages.keep(going)
    return [(len(exits), exits[-1]) for exits in outputs]


def padded_seconds(batch: Sequence[Samples]) -> float:
    """Return the seconds of a batch's audio, padding included."""
    return len(batch) * max(map(len, batch), default=0) / SAMPLE_RATE


def stage_costs(engine: Engine) -> tuple[StageCost, ...]:
    """Return what each of the E stages takes on this device: a line through two lengths of noise.

    The least of a few runs counts: other programs can only add to it.
    """
    short, long = (np.min([_timed(engine, n) for _ in range(REPEATS)], axis=0) for n in MEASURED)
    per_second = np.maximum(long - short, 0.0) / (MEASURED[1] - MEASURED[0])
    fixed = np.maximum(short - MEASURED[0] * per_second, 0.0)
    return tuple(StageCost(float(f), float(p)) for f, p in zip(fixed, per_second, strict=True))


def _timed(engine: Engine, seconds: float) -> NDArray[np.float64]:
    """Return the seconds that each of the E stages takes with so much audio."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    stages = engine.start([(0.1 * noise).astype(np.float32)])
    times = [perf_counter()]
    for _ in range(engine.num_exits):
        stages.advance()
        times.append(perf_counter())
    return np.diff(times)
