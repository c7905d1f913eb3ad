"""Word errors over compute: of fixed exits, of exit policies, and of the best exit of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.calibration import Observations, thresholds


@dataclass(frozen=True)
class Point:
    """What a way of choosing exits gives on speech whose words are known.

    Attributes
    ----------
    name : str
        Of the exit or policy.
    wer : float
        Word error rate.
    layers : float
        Mean number of encoder layers, over seconds of audio, like the next two.
    compute : float
        Multiply-adds per second of audio.
    seconds : float
        Seconds per second of audio, from what each stage takes on this machine.
    """

    name: str
    wer: float
    layers: float
    compute: float
    seconds: float

    def against(self, reference: "Point") -> str:
        """Return its WER relative to another's, such as "+2.0 %"; "-" if that one is 0."""
        return f"{100 * (self.wer / reference.wer - 1):+.1f} %" if reference.wer else "-"


@dataclass(frozen=True)
class Curve:
    """Speech that all exits have heard, and what each exit costs.

    Attributes
    ----------
    observed : Observations
        Scores and errors.
    layers, compute, seconds : sequences of E numbers
        What reaching each exit takes, per second of audio but for the layers.
    """

    observed: Observations
    layers: Sequence[int]
    compute: Sequence[float]
    seconds: Sequence[float]

    def point(self, name: str, exits: NDArray[np.int64]) -> Point:
        """Return the point of utterances that stop at ``exits`` ``[U]``, from 1."""
        audio = self.observed.seconds
        weights = audio / audio.sum()

        def mean(costs: Sequence[float]) -> float:
            return float((np.array(costs)[exits - 1] * weights).sum())

        return Point(
            name,
            self.observed.errors_at(exits) / int(self.observed.words.sum()),
            mean(self.layers),
            mean(self.compute),
            mean(self.seconds),
        )

    def fixed(self) -> list[Point]:
        """Return the point of each exit."""
        count = len(self.observed.words)
        exits = range(1, len(self.layers) + 1)
        return [self.point(f"exit {exit}", np.full(count, exit)) for exit in exits]

    def oracle(self) -> Point:
        """Return the point of the shallowest exit with the fewest errors of each utterance."""
        return self.point("oracle", self.observed.errors.argmin(0) + 1)

    def policy(self, name: str, tolerance: float) -> tuple[Point, list[float]]:
        """Return the point and the thresholds of a score for a tolerance."""
        found = thresholds(self.observed.histogram(name), self.compute, tolerance)
        return self.point(name, self.observed.stops({name: found})), found

    def adaptive(self, chosen: Mapping[str, Sequence[float]]) -> Point:
        """Return the point of scores with these thresholds, all of which must be exceeded."""
        return self.point("+".join(chosen), self.observed.stops(chosen))
