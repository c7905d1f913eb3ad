"""Exit policies: after each stage, whether an utterance has been heard well enough.

A policy's score looks at what the exits gave so far, and is at most 0: 0 for certain, the less
certain the lower. An utterance stops at an exit if its score is above that exit's threshold, so a
threshold of 0 never stops. ``ef-asr calibrate`` finds the thresholds. A score of one's own is a
function of this kind in the entry point group ``ef_asr.policies``.

Only numpy is needed here: a device without torch decides in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import entry_points
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from efmodel.errors import UserError, did_you_mean

PLUG_INS = "ef_asr.policies"
NEVER = 0.0  # a threshold that no score exceeds


@dataclass(frozen=True)
class ExitOutput:
    """What one exit gives for one utterance.

    Attributes
    ----------
    log_probs : ndarray
        ``[frames, vocab]``, log-probabilities.
    blank : int
        The label of CTC's blank.
    """

    log_probs: NDArray[np.float32]
    blank: int

    @cached_property
    def path(self) -> NDArray[np.int64]:
        """The most probable label of each frame, ``[frames]``."""
        path: NDArray[np.int64] = self.log_probs.argmax(-1)
        return path

    @cached_property
    def labels(self) -> list[int]:
        """The greedy path without repetitions and blanks."""
        changes = np.flatnonzero(np.diff(self.path, prepend=-1))
        return [int(label) for label in self.path[changes] if label != self.blank]


Score = Callable[[Sequence[ExitOutput]], float]


def confidence(exits: Sequence[ExitOutput]) -> float:
    """Return the log-probability of the last exit's greedy path, per label that is no blank.

    A mean over frames would depend on how much silence there is: blank frames are certain. Here
    they add next to nothing. A path of blanks alone counts as one label.
    """
    latest = exits[-1]
    return float(latest.log_probs.max(-1).sum() / max(1, len(latest.labels)))


def entropy(exits: Sequence[ExitOutput]) -> float:
    """Return minus the mean entropy of the last exit's frames, in nats.

    The criterion of HuBERT-EE (Yoon et al., arXiv 2204.06328, section 3.2), which averages over all
    frames, silence included.
    """
    log_probs = exits[-1].log_probs
    finite = np.maximum(log_probs, np.finfo(np.float32).min)  # 0 * -inf is no number
    return float(np.minimum(0, (np.exp(log_probs) * finite).sum(-1).mean()))


def agreement(exits: Sequence[ExitOutput]) -> float:
    """Return minus the share of labels in which the last two exits differ.

    It is the patience of Zhou et al. (arXiv 2006.04152) with a patience of 1, and with degrees in
    place of yes or no. At the first exit it is minus infinity.
    """
    if len(exits) < 2:
        return float("-inf")
    before, now = exits[-2].labels, exits[-1].labels
    return -min(1.0, edit_distance(before, now) / max(1, len(now)))


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the fewest insertions, deletions and substitutions from one sequence to the other."""
    labels = np.asarray(other)
    columns = np.arange(len(other) + 1)
    row = columns  # the distances from what was read of ``one`` to each beginning of ``other``
    for i, label in enumerate(one, start=1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (labels != label))
        # An insertion adds 1 for each column: the least of what lies before, by its distance.
        row = np.minimum.accumulate(np.concatenate([[i], changed]) - columns) + columns
    return int(row[-1])


SCORES: dict[str, Score] = {
    "confidence": confidence,
    "entropy": entropy,
    "agreement": agreement,
}


@cache  # a policy asks for each utterance at each exit
def score_named(name: str) -> Score:
    """Return a score by name, one of ours or of a plug-in.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name in SCORES:
        return SCORES[name]
    plug_ins = {point.name: point for point in entry_points(group=PLUG_INS)}
    if name in plug_ins:
        score: Score = plug_ins[name].load()
        return score
    known = [*SCORES, *plug_ins]
    raise UserError(
        f"policy: found {name!r}, wanted one of {', '.join(known)}, or several joined by +"
        f"{did_you_mean(name, known)}"
    )


class StageCost(NamedTuple):
    """What a stage takes on this device, for the lengths in which people speak.

    Attributes
    ----------
    fixed : float
        Seconds of a call, whatever the length. For a short recording it is most of the cost.
    per_second : float
        Seconds for each second of audio.
    """

    fixed: float
    per_second: float

    def of(self, seconds: float) -> float:
        """Return the seconds that so many seconds of audio take."""
        return self.fixed + self.per_second * seconds


@dataclass(frozen=True)
class ExitPolicy:
    """Decides after each stage whether an utterance stops.

    Attributes
    ----------
    thresholds : Mapping
        ``{score's name: E - 1 thresholds}``, shallow to deep. An utterance stops where each of the
        scores is above its threshold; without any score it goes to the end.
    deadline : float
        Seconds that a recording may take. It stops where the next stage would take it beyond.
    stage_costs : tuple of StageCost
        Those of the E stages; wanted with a deadline.
    """

    thresholds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    deadline: float = float("inf")
    stage_costs: tuple[StageCost, ...] = ()

    @property
    def never_stops(self) -> bool:
        """Whether every utterance goes to the deepest exit."""
        return not self.thresholds and self.deadline == float("inf")

    def is_sure(self, exits: Sequence[ExitOutput]) -> bool:
        """Return whether the scores say to stop at the exit that was reached last."""
        exit = len(exits)
        return bool(self.thresholds) and all(
            score_named(name)(exits) > at_exit[exit - 1]
            for name, at_exit in self.thresholds.items()
        )

    def is_late(self, exit: int, elapsed: float, seconds: float) -> bool:
        """Return whether the stage after ``exit`` would end behind the deadline.

        Parameters
        ----------
        exit : int
            The exit that was reached, from 1.
        elapsed : float
            Seconds since the work on these recordings began.
        seconds : float
            Seconds of audio that the next stage would run, padding included.
        """
        if self.deadline == float("inf"):
            return False
        return elapsed + self.stage_costs[exit].of(seconds) > self.deadline


def parse(names: str, thresholds: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Return the thresholds of the scores in ``names``, such as "confidence+agreement".

    Raises
    ------
    UserError
        If there is no such score, or the model has no thresholds for it.
    """
    chosen = {}
    for name in names.split("+"):
        score_named(name)
        if name not in thresholds:
            has = ", ".join(thresholds) or "none"
            raise UserError(
                f"policy: found no thresholds for {name} in this model (it has {has}); "
                "`ef-asr calibrate` finds them"
            )
        chosen[name] = thresholds[name]
    return chosen
