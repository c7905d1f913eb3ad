"""What the value of a run config key may be, and how an error message says it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efmodel.errors import did_you_mean


@dataclass(frozen=True)
class Check:
    """A condition on a value.

    Attributes
    ----------
    holds : callable
        Whether a value fulfils it.
    wanted : str
        What it demands, in words.
    choices : tuple of str
        All allowed values, if they can be listed.
    """

    holds: Callable[[Any], bool]
    wanted: str
    choices: tuple[str, ...] = ()

    def complaint(self, value: object) -> str:
        """Return what an error message says about a value that is not allowed."""
        return f"found {value!r}, wanted {self.wanted}{did_you_mean(str(value), self.choices)}"


def one_of(*names: str) -> Check:
    """Demand one of the names."""
    return Check(lambda value: value in names, f"one of {', '.join(names)}", names)


def at_least(low: float) -> Check:
    """Demand a number of ``low`` or more."""
    return Check(lambda value: low <= value < float("inf"), f"a number from {low}")


def parsed_by(parse: Callable[[str], object], wanted: str, choices: tuple[str, ...] = ()) -> Check:
    """Demand a text that ``parse`` reads without a ``ValueError``."""

    def holds(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return Check(holds, wanted, choices)


ABOVE_ZERO = Check(lambda value: 0 < value < float("inf"), "a number above 0")
FROM_ZERO = Check(lambda value: 0 <= value < float("inf"), "a number from 0")
FRACTION = Check(lambda value: 0 <= value < 1, "a number from 0, below 1")
PROBABILITY = Check(lambda value: 0 < value < 1, "a number above 0, below 1")
SHARE = Check(lambda value: 0 < value <= 1, "a share above 0, up to 1")
UP_TO_HALF = Check(lambda value: 0 <= value <= 0.5, "a share from 0 to 0.5")
