"""Runs grouped into methods and repetitions, with each method's error rates and costs.

A *method* is what a comparison compares. Its *repetitions* differ only in the seed. A *compound*
method needs several runs, its *parts*, for each repetition: for example clients that train alone,
or one federation for each capacity.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from statistics import mean, stdev
from typing import Any

from server_app.results.run import Run

RATES = ("wer", "cer")
# Repetitions of one method may differ in these keys.
KEYS_OF_A_REPETITION = {"seed", "output", "resume"}


class Axis(StrEnum):
    """What an error rate is drawn over."""

    ROUNDS = "rounds"
    BYTES = "bytes"
    COMPUTE = "compute"


@dataclass(frozen=True)
class SeedStatistics:
    """One figure in each repetition of a method: mean and sample standard deviation."""

    values: tuple[float, ...]  # never empty

    @property
    def mean(self) -> float:
        """The mean."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, divided by n - 1; None for a single value."""
        return stdev(self.values) if len(self.values) > 1 else None


def over_seeds(values: Iterable[float | None]) -> SeedStatistics | None:
    """Return the statistics of the values that are not None; None if there are none."""
    present = tuple(value for value in values if value is not None)
    return SeedStatistics(present) if present else None


@dataclass(frozen=True)
class Evaluation:
    """A repetition's error rates after an evaluated round, and its costs until then."""

    round: int
    bytes: int
    multiply_adds: float | None
    rates: Mapping[str, tuple[float | None, ...]]  # "wer" and "cer": a rate per exit

    def position(self, axis: Axis) -> float | None:
        """Return where the evaluation lies on an axis; None if that is unknown."""
        positions = {
            Axis.ROUNDS: self.round,
            Axis.BYTES: self.bytes,
            Axis.COMPUTE: self.multiply_adds,
        }
        return positions[axis]

    def rate_at(self, rate: str, exit: int) -> float | None:
        """Return a rate at an exit (from 1); None if the repetition has none there."""
        rates = self.rates[rate]
        return rates[exit - 1] if exit <= len(rates) else None


@dataclass
class Repetition:
    """One method with one seed: one run, or all parts of a compound method."""

    runs: list[Run]
    compound: bool

    def per_exit(self, figures_of_runs: list[list[float]]) -> list[float | None]:
        """Combine each run's figures per exit into one figure per exit.

        A part of a compound method counts at the deepest exit that it trained, and only there; if
        several parts end at one exit, their mean counts. A run of a plain method counts at every
        exit up to its deepest. The figure is None at an exit where no run counts.
        """
        combined = []
        for exit in range(1, max(map(len, figures_of_runs), default=0) + 1):
            counted = [
                figures[exit - 1]
                for run, figures in zip(self.runs, figures_of_runs, strict=True)
                if exit <= len(figures) and self._counts(run, exit)
            ]
            combined.append(mean(counted) if counted else None)
        return combined

    def _counts(self, run: Run, exit: int) -> bool:
        deepest = run.deepest_trained_exit
        return exit == deepest if self.compound else exit <= deepest

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All evaluated rounds. A part that has ended keeps its last rates and costs."""
        rounds = {record["round"] for run in self.runs for record in run.rounds if record["wer"]}
        return [
            Evaluation(
                number,
                self.bytes_until(number),
                self.multiply_adds_until(number),
                {
                    rate: tuple(self.per_exit([run.rates(rate, number) for run in self.runs]))
                    for rate in RATES
                },
            )
            for number in sorted(rounds)
        ]

    @property
    def last_round(self) -> int:
        """The last round of the part with the most rounds."""
        return max(run.last_round for run in self.runs)

    def bytes_until(self, number: int) -> int:
        """Return the bytes sent, down and up, by all parts until round ``number``."""
        total = 0
        for run in self.runs:
            rounds = run.rounds_until(number)
            total += run.cumulative_bytes[rounds - 1] if rounds else 0
        return total

    def multiply_adds_until(self, number: int) -> float | None:
        """Return all parts' multiply-adds until round ``number``; None if any is unknown."""
        total = 0.0
        for run in self.runs:
            cumulative = run.cumulative_multiply_adds
            if cumulative is None:
                return None
            rounds = run.rounds_until(number)
            total += cumulative[rounds - 1] if rounds else 0.0
        return total

    @property
    def client_updates(self) -> int:
        """Usable replies to all parts."""
        return sum(run.client_updates for run in self.runs)

    @property
    def trained_seconds(self) -> float | None:
        """Seconds of speech that all parts' clients trained on; None if any is unknown."""
        total = 0.0
        for run in self.runs:
            if run.trained_seconds is None:
                return None
            total += run.trained_seconds
        return total

    def trainers_per_exit(self) -> list[float | None]:
        """Return how many clients trained each exit's stage, as a mean over rounds."""
        means = []
        for run in self.runs:
            by_exit = zip(*(record["trainers-per-exit"] for record in run.rounds), strict=True)
            means.append([mean(trainers) for trainers in by_exit])
        return self.per_exit(means)


@dataclass
class Method:
    """One line of a comparison, with its repetitions."""

    label: str
    repetitions: list[Repetition] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """All runs of all repetitions."""
        return [run for repetition in self.repetitions for run in repetition.runs]

    @property
    def is_federated(self) -> bool:
        """Whether any run sent anything."""
        return any(run.is_federated for run in self.runs)

    @property
    def complete(self) -> list[Repetition]:
        """Repetitions that have every part which any repetition has; costs are taken from these."""
        parts = {run.part for run in self.runs}
        return [r for r in self.repetitions if {run.part for run in r.runs} == parts]

    @property
    def unfinished(self) -> bool:
        """Whether a run has rounds left, or a repetition lacks a part that another one has."""
        return not all(run.finished for run in self.runs) or self.complete != self.repetitions

    def final(self, rate: str) -> list[SeedStatistics | None]:
        """Return ``wer`` or ``cer`` per exit after the last evaluated round."""
        last_rates = [r.evaluations[-1].rates[rate] for r in self.repetitions if r.evaluations]
        return _statistics_per_exit(last_rates)

    def trainers_per_exit(self) -> list[SeedStatistics | None]:
        """Return how many clients trained each exit's stage in a round."""
        return _statistics_per_exit([r.trainers_per_exit() for r in self.repetitions])

    def bytes(self) -> SeedStatistics | None:
        """Return the bytes sent in all; None if the method is not federated."""
        if not self.is_federated:
            return None
        return over_seeds(r.bytes_until(r.last_round) for r in self.complete)

    def client_updates(self) -> SeedStatistics | None:
        """Return the usable replies in all."""
        return over_seeds(r.client_updates for r in self.complete)

    def trained_seconds(self) -> SeedStatistics | None:
        """Return the seconds of speech trained on, counted again in every local epoch."""
        return over_seeds(r.trained_seconds for r in self.complete)

    def multiply_adds(self) -> SeedStatistics | None:
        """Return the multiply-adds of all clients' training."""
        return over_seeds(r.multiply_adds_until(r.last_round) for r in self.complete)

    def curve(self, rate: str, exit: int, axis: Axis) -> list[tuple[float, SeedStatistics]]:
        """Return a rate at an exit (from 1) over an axis: positions with the rate's statistics.

        There is one point for each evaluated round, over the repetitions that reached it. Over
        bytes or compute only complete repetitions count.
        """
        if axis == Axis.BYTES and not self.is_federated:
            return []
        positions: dict[int, list[float]] = defaultdict(list)
        rates: dict[int, list[float]] = defaultdict(list)
        for repetition in self.repetitions if axis == Axis.ROUNDS else self.complete:
            for evaluation in repetition.evaluations:
                position = evaluation.position(axis)
                value = evaluation.rate_at(rate, exit)
                if position is not None and value is not None:
                    positions[evaluation.round].append(position)
                    rates[evaluation.round].append(value)
        return [
            (mean(positions[number]), SeedStatistics(tuple(rates[number])))
            for number in sorted(positions)
        ]


def _statistics_per_exit(
    repetitions: list[list[float | None]] | list[tuple[float | None, ...]],
) -> list[SeedStatistics | None]:
    """Return statistics per exit; repetitions may have different numbers of exits."""
    exits = max(map(len, repetitions), default=0)
    return [over_seeds(r[e] if e < len(r) else None for r in repetitions) for e in range(exits)]


def group(runs: Iterable[Run]) -> list[Method]:
    """Group runs into methods with their repetitions, in the order in which methods first appear.

    Runs of one method that differ in more than the seed become methods of their own, labelled with
    the keys that differ. A part of a compound method is compared only with the same part.

    Raises
    ------
    ValueError
        If two runs are the same part of one method with one seed.
    """
    runs_by_name: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        runs_by_name[run.method].append(run)
    methods: dict[str, Method] = {}
    for same_name in runs_by_name.values():
        compound = any(run.part is not None for run in same_name)
        differing_keys = _differing_keys(same_name)
        for run in same_name:
            label = _label(run, differing_keys)
            method = methods.setdefault(label, Method(label))
            _add(method, run, compound)
    return list(methods.values())


def _add(method: Method, run: Run, compound: bool) -> None:
    """Add a run as a repetition, or as a part of the repetition with the same seed."""
    for repetition in method.repetitions if compound else []:
        if repetition.runs[0].seed != run.seed:
            continue
        for other in repetition.runs:
            if other.part == run.part:
                raise ValueError(
                    f"report: found part {run.part} of {method.label} with seed {run.seed} in "
                    f"{other.path} and in {run.path}, wanted one"
                )
        repetition.runs.append(run)
        return
    method.repetitions.append(Repetition([run], compound))


def _compared_config(run: Run) -> dict[str, Any]:
    """Return the keys that tell methods apart, and the number of nodes if it is recorded."""
    nodes = {} if run.nodes is None else {"nodes": run.nodes}
    config = {key: v for key, v in run.config.items() if key not in KEYS_OF_A_REPETITION}
    return config | nodes


def _differing_keys(runs: list[Run]) -> list[str]:
    """Return the keys in which two runs of the same part have different values."""
    values: dict[tuple[int | None, str], set[str]] = defaultdict(set)
    for run in runs:
        for key, value in _compared_config(run).items():
            values[run.part, key].add(json.dumps(value))
    return sorted({key for (_, key), distinct in values.items() if len(distinct) > 1})


def _label(run: Run, differing_keys: list[str]) -> str:
    if not differing_keys:
        return run.method
    config = _compared_config(run)
    return f"{run.method} ({', '.join(f'{key}={config.get(key)}' for key in differing_keys)})"
