"""The ``ef-asr`` command: gathers what is registered under the entry points ``ef_asr.commands``."""

from importlib.metadata import entry_points

import typer


def build() -> typer.Typer:
    """Return the app with every registered command; a name says what it is called by."""
    app = typer.Typer(
        help="Federated training of one early-exit speech recogniser across unequal devices.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        add_completion=False,
    )
    app.callback()(lambda: None)  # keeps a lone command a subcommand
    for entry in sorted(entry_points(group="ef_asr.commands"), key=lambda entry: entry.name):
        app.command(entry.name)(entry.load())
    return app


def main() -> None:
    """Run the command line."""
    build()()
