"""``ef-asr capacity``: what each exit of a model costs on this machine, and which ones fit."""

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

    from client_app import measuring
    from client_app.capacity import budget_of
    from efmodel import saved, text
    from efmodel.config import PRESETS, preset
    from efmodel.settings import Settings, SettingsError

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
            spelled = text.of_preset(model)
            config = preset(model, vocab_size=len(spelled), pad_token_id=spelled.pad_token_id)
        else:
            config = saved.load(Path(model).expanduser(), None)[0].config
    except (SettingsError, saved.ModelError) as error:
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
