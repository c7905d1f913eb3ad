"""Runs side by side: which are repetitions of one method, and what each method reached and cost.

A *method* is what is compared. Its runs that differ in seed are *repetitions*. A compound method
takes several runs, its *parts*, for each repetition: clients that train alone, say, or a
federation for each capacity.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean, stdev
from typing import Any

from server_app.results.run import Run

RATES = ("wer", "cer")
NO_DIFFERENCE = {"seed", "output", "resume"}  # keys in which repetitions of one method may differ


@dataclass(frozen=True)
class Spread:
    """Repetitions of a figure: their mean and sample standard deviation (None for just one)."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, divided by n - 1."""
        return stdev(self.values) if len(self.values) > 1 else None


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return the spread of the values that there are; None if there are none."""
    found = tuple(value for value in values if value is not None)
    return Spread(found) if found else None


@dataclass(frozen=True)
class Point:
    """Where a repetition stood after a round that was evaluated; rates are per exit."""

    round: int
    sent: int  # bytes so far
    computed: float | None  # multiply-adds so far
    wer: tuple[float | None, ...]
    cer: tuple[float | None, ...]


@dataclass
class Repetition:
    """One method with one seed: a run, or all parts of a compound method."""

    runs: list[Run]
    compound: bool

    def at_exits(self, per_run: list[list[Any]]) -> list[Any]:
        """Return one figure per exit, out of each run's own figures per exit.

        A part of a compound method speaks for the deepest exit that it ever trained, and there are
        as many parts to a mean as end at that exit; a run of its own for all exits up to its
        deepest. None stands where nobody speaks.
        """
        chosen = []
        for exit in range(1, max(map(len, per_run), default=0) + 1):
            found = [
                figures[exit - 1]
                for run, figures in zip(self.runs, per_run, strict=True)
                if exit <= len(figures)
                and (exit == run.deepest if self.compound else exit <= run.deepest)
            ]
            chosen.append(mean(found) if found else None)
        return chosen

    @cached_property
    def points(self) -> list[Point]:
        """All rounds that were evaluated. A part that has ended counts as it was at its end."""
        numbers = {r["round"] for run in self.runs for r in run.rounds if r["wer"]}
        return [self._point(number) for number in sorted(numbers)]

    def _point(self, number: int) -> Point:
        wer, cer = (
            tuple(self.at_exits([run.rates(rate, number) for run in self.runs])) for rate in RATES
        )
        return Point(number, self.sent(number), self.computed(number), wer, cer)

    @property
    def last_round(self) -> int:
        """The last round of the part that had most."""
        return max(run.last_round for run in self.runs)

    def sent(self, number: int) -> int:
        """Return the bytes down and up of all parts until round ``number``."""
        over = [(run.sent, run.rounds_until(number)) for run in self.runs]
        return sum(sent[count - 1] for sent, count in over if count)

    def computed(self, number: int) -> float | None:
        """Return the multiply-adds of all parts until round ``number``, if all are known."""
        over = [(run.computed, run.rounds_until(number)) for run in self.runs]
        known = [
            computed[count - 1] if count else 0.0
            for computed, count in over
            if computed is not None
        ]
        return sum(known) if len(known) == len(over) else None

    @property
    def updates(self) -> int:
        """Client updates of all parts."""
        return sum(run.updates for run in self.runs)

    @property
    def heard(self) -> float | None:
        """Seconds of speech that all parts' clients trained on, if all are known."""
        known = [run.heard for run in self.runs if run.heard is not None]
        return sum(known) if len(known) == len(self.runs) else None

    def trainers(self) -> list[float | None]:
        """Return the clients a round that trained what stands behind each exit."""
        per_run = [
            [mean(each) for each in zip(*(r["trainers-per-exit"] for r in run.rounds), strict=True)]
            for run in self.runs
        ]
        return self.at_exits(per_run)


@dataclass
class Method:
    """What is compared, and its repetitions."""

    label: str
    repetitions: list[Repetition] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """All runs of all repetitions."""
        return [run for repetition in self.repetitions for run in repetition.runs]

    @property
    def federates(self) -> bool:
        """Whether anything was sent."""
        return any(run.federates for run in self.runs)

    @property
    def whole(self) -> list[Repetition]:
        """Repetitions with every part that any of them has: only those say what it costs."""
        parts = {run.part for run in self.runs}
        return [each for each in self.repetitions if {run.part for run in each.runs} == parts]

    @property
    def unfinished(self) -> bool:
        """Whether a run has rounds left, or a repetition lacks a part that another has."""
        return not all(run.finished for run in self.runs) or self.whole != self.repetitions

    def final(self, rate: str) -> list[Spread | None]:
        """Return a rate per exit after the last round that was evaluated."""
        last = [getattr(each.points[-1], rate) for each in self.repetitions if each.points]
        return _by_exit(last)

    def trainers(self) -> list[Spread | None]:
        """Return the clients a round that trained what stands behind each exit."""
        return _by_exit([each.trainers() for each in self.repetitions])

    def sent(self) -> Spread | None:
        """Return the bytes that were sent in all; None for what is no federation."""
        if not self.federates:
            return None
        return spread(each.sent(each.last_round) for each in self.whole)

    def updates(self) -> Spread | None:
        """Return the client updates in all."""
        return spread(each.updates for each in self.whole)

    def heard(self) -> Spread | None:
        """Return the seconds of speech that clients trained on in all, each as often as it was."""
        return spread(each.heard for each in self.whole)

    def computed(self) -> Spread | None:
        """Return the multiply-adds that clients spent on training in all."""
        return spread(each.computed(each.last_round) for each in self.whole)

    def curve(self, rate: str, exit: int, over: str) -> list[tuple[float, Spread]]:
        """Return a rate at an exit over a :class:`Point`'s ``round``, ``sent`` or ``computed``.

        One entry for each round that was evaluated, over the repetitions that got so far; over
        bytes or compute only the whole ones.
        """
        if over == "sent" and not self.federates:
            return []
        at: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for repetition in self.repetitions if over == "round" else self.whole:
            for point in repetition.points:
                rates, place = getattr(point, rate), getattr(point, over)
                if place is not None and exit <= len(rates) and rates[exit - 1] is not None:
                    at[point.round].append((place, rates[exit - 1]))
        return [
            (mean(place for place, _ in found), Spread(tuple(value for _, value in found)))
            for _, found in sorted(at.items())
        ]


def _by_exit(repetitions: list[Any]) -> list[Spread | None]:
    exits = max(map(len, repetitions), default=0)
    return [spread(r[e] if e < len(r) else None for r in repetitions) for e in range(exits)]


def group(runs: Iterable[Run]) -> list[Method]:
    """Return the methods, in the order in which they first come, with their repetitions.

    Runs of one method that differ in more than the seed are methods of their own, named by what
    differs; parts of a compound method are only held against the same part.

    Raises
    ------
    ValueError
        If two runs are the same part of one method with one seed.
    """
    named: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        named[run.method].append(run)
    methods: dict[str, Method] = {}
    for same in named.values():
        compound = any(run.part is not None for run in same)
        differing = _differing_keys(same)
        for run in same:
            label = _label(run, differing)
            method = methods.setdefault(label, Method(label))
            _add(method, run, compound)
    return list(methods.values())


def _add(method: Method, run: Run, compound: bool) -> None:
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


def _compared(run: Run) -> dict[str, Any]:
    nodes = {} if run.nodes is None else {"nodes": run.nodes}
    return {k: v for k, v in run.config.items() if k not in NO_DIFFERENCE} | nodes


def _differing_keys(runs: list[Run]) -> list[str]:
    """Return the keys in which the same part of a method has more than one value."""
    values: dict[tuple[int | None, str], set[str]] = defaultdict(set)
    for run in runs:
        for key, value in _compared(run).items():
            values[run.part, key].add(json.dumps(value))
    return sorted({key for (_, key), found in values.items() if len(found) > 1})


def _label(run: Run, differing: list[str]) -> str:
    if not differing:
        return run.method
    compared = _compared(run)
    return f"{run.method} ({', '.join(f'{key}={compared.get(key)}' for key in differing)})"
