"""The line that says why a run failed, found in its log."""

import logging
import traceback

import pytest

from server_app.run_folder import FAILED
from simulation.failure import cause


def chained() -> str:
    """Return the traceback of an error that led to another one."""
    try:
        try:
            raise ValueError("ActorPool is empty")
        except ValueError as error:
            raise RuntimeError("Simulation Runtime crashed.") from error
    except RuntimeError:
        return traceback.format_exc()


def plain(error: Exception) -> str:
    return f"Traceback (most recent call last):\n  File 'x.py'\n{type(error).__name__}: {error}\n"


@pytest.mark.parametrize(
    ("printed", "wanted"),
    [
        (f"INFO : starting\n{chained()}ERROR : Exit Code: 700\n", "ValueError: ActorPool is empty"),
        (plain(KeyError("first")) + chained(), "ValueError: ActorPool is empty"),
        (chained() + plain(OSError("last")), "OSError: last"),
        (  # of Ray, on a machine that is too busy
            plain(Exception("The current node timed out")) + "\nThe above exception was the direct "
            f"cause of the following exception:\n\n{plain(RuntimeError('crashed'))}",
            "Exception: The current node timed out",
        ),
        (
            f"\x1b[91mERROR \x1b[0m:     {FAILED}no client could be used\n{chained()}",
            "no client could be used",
        ),
        (
            "(pid=7) ray.exceptions.RaySystemError: no socket",
            "ray.exceptions.RaySystemError: no so",
        ),
        ("AssertionError\n", "AssertionError"),
        ("INFO : all is well\nan Error in a sentence\nError in another\n", ""),
        ("", ""),
    ],
)
def test_the_first_cause_is_found(printed, wanted):
    found = cause(printed)
    assert found.startswith(wanted) if wanted else not found


def test_the_server_apps_own_line_is_the_one_that_is_looked_for(caplog):
    logging.getLogger("x").error(FAILED + "%s", "lr: found 0")
    assert cause(caplog.text) == "lr: found 0"
