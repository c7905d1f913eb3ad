"""What each exit's loss weighs: functions of (exit from 1, number of exits, progress).

``progress`` is the share of the run that is over: 0 in its first round, 1 in its last. All weights
of a model are at least 0 and, but for "sum", sum to one, so that the size of a
step does not depend on how deep a client is cut.
"""

from collections.abc import Callable

ExitWeight = Callable[[int, int, float], float]


def mean(exit: int, num_exits: int, progress: float) -> float:
    """1 / E: all alike."""
    return 1 / num_exits


def total(exit: int, num_exits: int, progress: float) -> float:
    """1: the sum of the losses (arXiv 2405.17376, equation 1)."""
    return 1.0


def last(exit: int, num_exits: int, progress: float) -> float:
    """Only the deepest at hand."""
    return float(exit == num_exits)


def linear(exit: int, num_exits: int, progress: float) -> float:
    """Deeper ones more: e / (1 + ... + E)."""
    return 2 * exit / (num_exits * (num_exits + 1))


def inverse(exit: int, num_exits: int, progress: float) -> float:
    """Shallower ones more: (1 / e) / (1 + 1/2 + ... + 1/E)."""
    return 1 / exit / sum(1 / each for each in range(1, num_exits + 1))


def deepening(exit: int, num_exits: int, progress: float) -> float:
    """From shallow to deep over the run, no exit ever at zero: (1 - p) inverse + p linear.

    Deep layers learn from what shallow ones give them: those may settle first.
    """
    shallow, deep = inverse(exit, num_exits, progress), linear(exit, num_exits, progress)
    return (1 - progress) * shallow + progress * deep


EXIT_WEIGHTS: dict[str, ExitWeight] = {
    "mean": mean,
    "sum": total,
    "last": last,
    "linear": linear,
    "weighted": linear,  # its other name
    "inverse": inverse,
    "deepening": deepening,
}


def exit_weights(kind: str, num_exits: int, progress: float = 1.0) -> list[float]:
    """Return the weight of each exit's loss, shallow to deep.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in EXIT_WEIGHTS:
        raise ValueError(f"exit-loss: found {kind!r}, wanted one of {', '.join(EXIT_WEIGHTS)}")
    weight = EXIT_WEIGHTS[kind]
    return [weight(exit, num_exits, progress) for exit in range(1, num_exits + 1)]
