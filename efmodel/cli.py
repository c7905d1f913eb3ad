"""The ``ef-asr`` command: its commands are the entry points of the group ``ef_asr.commands``."""

import io
import sys
from importlib.metadata import entry_points

import typer


def build(name: str = "") -> typer.Typer:
    """Return the command line with the command of this name, or with all if none has it.

    Parameters
    ----------
    name : str
        What the user typed after ``ef-asr``. Only that command's module is imported; the list of
        commands, and the suggestions for a misspelt one, need them all.
    """
    app = typer.Typer(
        help="Federated training of one early-exit speech recogniser across unequal devices.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        add_completion=False,
    )
    app.callback()(lambda: None)  # without a callback, typer drops the name of a single command
    commands = entry_points(group="ef_asr.commands")
    for entry in commands.select(name=name) or sorted(commands, key=lambda entry: entry.name):
        app.command(entry.name)(entry.load())
    return app


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may have bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    build(*sys.argv[1:2])()
