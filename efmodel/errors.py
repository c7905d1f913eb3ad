"""Mistakes in what the user gave, and how a command shows them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

MAX_NAMED = 5  # faults of one kind that a report names; it counts the others


class UserError(ValueError):
    """A mistake in what the user gave: a key, a path, a name. A command shows only its message."""


class DataError(UserError):
    """Data that is missing or malformed."""


@contextmanager
def shown_errors(*further: type[Exception], status: int = 2) -> Iterator[None]:
    """Show a mistake of the user as one red line and end the command; no traceback.

    A decorator of a command, or a ``with`` block around a part of it.

    Parameters
    ----------
    further : type of Exception
        Exceptions to show in the same way, beside ``UserError``.
    status : int
        The command's exit status.
    """
    import typer

    kinds: tuple[type[Exception], ...] = (UserError, *further)
    try:
        yield
    except kinds as error:
        show(str(error))
        raise typer.Exit(status) from None


def show(message: str) -> None:
    """Print an error message to stderr, in red where that is a terminal."""
    import typer

    typer.secho(message, fg="red", err=True)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: "; did you mean 'rounds'?", or nothing."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
