"""``ef-asr doctor``: whether this device can take part, and what to do if it cannot."""

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="As for flower-supernode; empty: not checked.")
    ] = "",
    root_certificates: Annotated[Path | None, typer.Option(help="As for flower-supernode.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="As for flower-supernode.")] = False,
    data_path: Annotated[str, typer.Option(help="The folder of this device's recordings.")] = "",
) -> None:
    """Check server, TLS, certificate, clock, data, memory and disk, and say what to do.

    Ends with 1 if something is wrong.
    """
    from client_app.doctor import Server, examine

    server = None
    if superlink:
        host, _, port = superlink.rpartition(":")
        if not host or not port.isdigit():
            typer.secho(f"superlink: found {superlink!r}, wanted HOST:PORT", fg="red", err=True)
            raise typer.Exit(2)
        server = Server(host.strip("[]"), int(port), insecure, root_certificates)
    wrong = 0
    for finding in examine(server, data_path):
        wrong += bool(finding.advice)
        mark = typer.style("WRONG", fg="red") if finding.advice else typer.style("ok", fg="green")
        typer.echo(f"{mark:>5}  {finding.what}: {finding.found}")
        if finding.advice:
            typer.echo(f"       -> {finding.advice}")
    raise typer.Exit(1 if wrong else 0)
