"""The commands ``ef-asr report`` and ``keys``."""

from pathlib import Path
from typing import Annotated

import typer

from efmodel.errors import shown_errors


@shown_errors(FileNotFoundError, ValueError)
def report(
    run: Annotated[
        list[Path], typer.Argument(help="Run folders, finished or not, or folders that hold them.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the comparison of several runs.")] = Path(
        "comparison"
    ),
) -> None:
    """Write one run's report.html, or a page that compares several. The last line is its path."""
    from server_app.results.page import write_comparison
    from server_app.results.report import write_report
    from server_app.results.run import find_runs

    runs = find_runs(run)
    typer.echo(write_report(runs[0]) if len(runs) == 1 else write_comparison(runs, output))


@shown_errors(OSError)
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder of the keys; existing files stay.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="DNS name or address of the SuperLink, as devices reach it; repeatable."),
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="A device's name; repeatable.")] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace the certificate and the named devices' keys.")
    ] = False,
) -> None:
    """Make a certificate authority, the SuperLink's certificate, and a key pair per device.

    A device needs only `ca.crt` and its own private key. Keep `ca.key` on a machine that is not
    online.
    """
    from server_app.keys import make_keys

    for path in make_keys(folder, name or [], device or [], renew):
        typer.echo(f"wrote {path}")
    for each in device or []:
        public = folder / f"{each}.pub"
        typer.echo(f"register it: flwr supernode register {public} SUPERLINK --name {each}")
