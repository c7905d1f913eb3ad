"""The commands ``ef-asr capacity`` and ``doctor``."""

from pathlib import Path
from typing import Annotated

import typer


def capacity(
    model: Annotated[str, typer.Option(help="A preset, or a saved model's folder.")] = "tiny",
    memory_mb: Annotated[
        int, typer.Option(help="Megabytes that training may take; 0: half of what is free.")
    ] = 0,
    seconds_per_audio_second: Annotated[
        float, typer.Option(help="Seconds of a step per second of audio at most; 0: any.")
    ] = 0.0,
    max_seconds: Annotated[
        float, typer.Option(help="The longest recording that is trained on.")
    ] = 30.0,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio in a batch.")] = 12.0,
    freeze: Annotated[str, typer.Option(help="What nobody trains: frontend, layers:4 ...")] = "",
) -> None:
    """Measure a training step at each exit, shallow to deep, up to the first that does not fit.

    On noise as long as the longest batch, as a device does that is told no capacity. Ends with 1
    if not even exit 1 fits.
    """
    from rich.console import Console
    from rich.table import Table

    from client_app.capacity import measuring
    from client_app.capacity.own import budget_of
    from efmodel.config import PRESETS, preset
    from efmodel.model import loading
    from efmodel.settings import Settings, SettingsError
    from efmodel.speech import vocabulary

    try:
        settings = Settings.from_run_config(
            {
                "memory-mb": memory_mb,
                "seconds-per-audio-second": seconds_per_audio_second,
                "max-seconds": max_seconds,
                "batch-seconds": batch_seconds,
                "freeze": freeze,
            }
        )
        if model in PRESETS:
            spelled = vocabulary.of_preset(model)
            config = preset(model, vocab_size=len(spelled), pad_token_id=spelled.pad_token_id)
        else:
            config = loading.load(Path(model).expanduser(), None)[0].config
    except (SettingsError, loading.ModelError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    budget = budget_of(settings)
    table = Table("exit", "parameters", "s per s of audio", "peak MB", "fits")
    fitting = 0
    with Console(stderr=True).status("measuring"):
        for cost in measuring.measure(config.to_json_string(use_diff=False), settings, budget):
            fitting += not cost.obstacle
            table.add_row(
                str(cost.exit),
                f"{cost.parameters:,}" if cost.parameters else "?",
                f"{cost.seconds:.4f}" if cost.seconds else "?",
                f"{cost.peak_mb:.0f}",
                f"no: {cost.obstacle}" if cost.obstacle else "yes",
            )
    Console().print(table)
    print(f"capacity {fitting} of {config.num_exits} within {budget.memory_mb:.0f} MB")
    raise typer.Exit(0 if fitting else 1)


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
