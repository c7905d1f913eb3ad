"""The commands ``ef-asr capacity`` and ``doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from efmodel.errors import shown_errors
from efmodel.light_imports import prepare_transformers


@shown_errors()
def capacity(
    model: Annotated[str, typer.Option(help="A preset, or a saved model's folder.")] = "tiny",
    memory_mb: Annotated[
        int, typer.Option(help="Megabytes that training may take; 0: half of what is free.")
    ] = 0,
    seconds_per_audio_second: Annotated[
        float, typer.Option(help="Seconds that a step may take per second of audio; 0: any.")
    ] = 0.0,
    max_seconds: Annotated[float, typer.Option(help="Length of the longest recording.")] = 30.0,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio in a batch.")] = 12.0,
    freeze: Annotated[
        str, typer.Option(help="Part that no client trains: frontend, layers:4 ...")
    ] = "",
) -> None:
    """Measure a training step at each exit, shallow to deep, until one does not fit.

    The step is the one that a device without a configured capacity measures: noise as long as the
    longest batch. The exit status is 1 if not even exit 1 fits.
    """
    from rich.console import Console

    from client_app.capacity.table import Measurement

    measurement = Measurement.of(
        model,
        {
            "memory-mb": memory_mb,
            "seconds-per-audio-second": seconds_per_audio_second,
            "max-seconds": max_seconds,
            "batch-seconds": batch_seconds,
            "freeze": freeze,
        },
    )
    with Console(stderr=True).status("measuring"):
        costs = measurement.costs()
    Console().print(measurement.table(costs))
    fitting = sum(not cost.obstacle for cost in costs)
    budget = f"{measurement.budget.memory_mb:.0f} MB"
    print(f"capacity {fitting} of {measurement.config.num_exits} within {budget}")
    raise typer.Exit(0 if fitting else 1)


@shown_errors()
def doctor(
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="As for flower-supernode; empty: not checked.")
    ] = "",
    root_certificates: Annotated[Path | None, typer.Option(help="As for flower-supernode.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="As for flower-supernode.")] = False,
    data_path: Annotated[str, typer.Option(help="The folder of this device's recordings.")] = "",
) -> None:
    """Check server, TLS, certificate, clock, data, memory and disk, and print what to do.

    The exit status is 1 if something is wrong.
    """
    from client_app.doctor import Server, examine
    from efmodel.errors import UserError

    server = None
    if superlink:
        host, _, port = superlink.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"superlink: found {superlink!r}, wanted HOST:PORT")
        server = Server(host.strip("[]"), int(port), insecure, root_certificates)
    if data_path:
        prepare_transformers()  # every start of a device waits for this command
    wrong = 0
    for finding in examine(server, data_path):
        wrong += bool(finding.advice)
        mark = typer.style("WRONG", fg="red") if finding.advice else typer.style("ok", fg="green")
        typer.echo(f"{mark:>5}  {finding.what}: {finding.found}")
        if finding.advice:
            typer.echo(f"       -> {finding.advice}")
    raise typer.Exit(1 if wrong else 0)
