"""``ef-asr keys``: what TLS and node authentication need, and how to let a device in."""

from pathlib import Path
from typing import Annotated

import typer


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
