"""``ef-asr report``: runs as pages for a browser."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[
        list[Path],
        typer.Argument(help="Run folders, of finished runs or not, or folders that hold such."),
    ],
    output: Annotated[Path, typer.Option(help="Where the comparison of several runs goes.")] = Path(
        "comparison"
    ),
) -> None:
    """Write one run's report.html, or a page that compares several. The last line is its path."""
    from server_app.comparison_page import write_comparison
    from server_app.report import write_report
    from server_app.run import find_runs

    try:
        runs = find_runs(run)
        page = write_report(runs[0]) if len(runs) == 1 else write_comparison(runs, output)
    except (FileNotFoundError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    typer.echo(page)
