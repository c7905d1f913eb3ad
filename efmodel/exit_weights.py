"""The weight of each exit's loss: functions of (exit from 1, number of exits, progress).

``progress`` is the share of the run that is over: 0 in its first round, 1 in its last. A weight is
at least 0. Except for "sum", a model's weights sum to 1, so that the size of a step does not
depend on the depth of the cut.
"""

from collections.abc import Callable

ExitWeight = Callable[[int, int, float], float]


def mean(exit: int, num_exits: int, progress: float) -> float:
    """All exits count the same: 1 / E."""
    return 1 / num_exits


def total(exit: int, num_exits: int, progress: float) -> float:
    """Sum the losses: 1 for each (arXiv 2405.17376, equation 1)."""
    return 1.0


def last(exit: int, num_exits: int, progress: float) -> float:
    """1 for the deepest exit of the cut model, 0 for the others."""
    return float(exit == num_exits)


def linear(exit: int, num_exits: int, progress: float) -> float:
    """Deeper exits count more: e / (1 + ... + E)."""
    return 2 * exit / (num_exits * (num_exits + 1))


def inverse(exit: int, num_exits: int, progress: float) -> float:
    """Shallower exits count more: (1 / e) / (1 + 1/2 + ... + 1/E)."""
    return 1 / exit / sum(1 / e for e in range(1, num_exits + 1))


def deepening(exit: int, num_exits: int, progress: float) -> float:
    """Move the weight from shallow to deep exits over the run: (1 - p) inverse + p linear.

    Deep layers take the output of shallow layers, which so get time to settle first.
    """
    shallow, deep = inverse(exit, num_exits, progress), linear(exit, num_exits, progress)
    return (1 - progress) * shallow + progress * deep


EXIT_WEIGHTS: dict[str, ExitWeight] = {
    "mean": mean,
    "sum": total,
    "last": last,
    "linear": linear,
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
