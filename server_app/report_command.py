"""``ef-asr report``: runs as pages for a browser."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[list[Path], typer.Argument(help="Run folders, of finished runs or not.")],
) -> None:
    """Write each run's report.html: error rates, nodes, rounds, and what was run."""
    from server_app.report import write_report

    for each in run:
        try:
            typer.echo(write_report(each))
        except FileNotFoundError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(2) from error
