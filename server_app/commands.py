"""The commands ``ef-asr report`` and ``keys``."""

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
    from server_app.results.page import write_comparison
    from server_app.results.report import write_report
    from server_app.results.run import find_runs

    try:
        runs = find_runs(run)
        page = write_report(runs[0]) if len(runs) == 1 else write_comparison(runs, output)
    except (FileNotFoundError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    typer.echo(page)


def keys(
    folder: Annotated[Path, typer.Argument(help="Where keys are kept; what is there stays.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="DNS name or address of the SuperLink, as devices reach it; repeatable."),
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="A device's name; repeatable.")] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make the named ones anew: certificate, device's pair.")
    ] = False,
) -> None:
    """Make a certificate authority, the SuperLink's certificate, and a key pair per device.

    Only `ca.crt` and its own private key belong on a device; `ca.key` on no machine that is online.
    """
    from server_app.keys import KeysError, make_keys

    try:
        written = make_keys(folder, name or [], device or [], renew)
    except (KeysError, OSError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    for path in written:
        typer.echo(f"wrote {path}")
    for each in device or []:
        typer.echo(
            f"let it in: flwr supernode register {folder / each}.pub SUPERLINK --name {each}"
        )
