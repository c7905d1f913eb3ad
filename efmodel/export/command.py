"""The command ``ef-asr export``: a recogniser for a device without torch."""

from pathlib import Path
from typing import Annotated

import typer

from efmodel.errors import UserError, shown_errors


@shown_errors()
def export(
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    output: Annotated[Path, typer.Option(help="A new or an empty folder.")],
    exit: Annotated[
        str, typer.Option(help="The exit (from 1) at which the exported model ends, or all.")
    ] = "all",
) -> None:
    """Write a model as ONNX, a graph per stage, for recognition without torch.

    Each stage is compared with torch; where a log-probability differs by more than 0.001, the
    command ends with an error. `ef-asr transcribe --model OUTPUT` uses what was written.
    """
    from rich.console import Console
    from rich.table import Table
    from transformers.utils import logging

    from efmodel.model.loading import load, local_folder

    _check_installed()
    from efmodel.export.onnx import export as write

    logging.disable_progress_bar()  # of transformers
    network, tokenizer = load(local_folder(model), _exit_number(exit))
    console = Console()
    with console.status("exporting") as status:
        written = write(network, tokenizer, output, status.update)
    table = Table("stage", "file", "MB", "multiply-adds per second", "largest difference")
    for number, stage in enumerate(written, start=1):
        size = stage.file.stat().st_size / 1e6
        cost = f"{stage.multiply_adds / 1e6:.1f} M"
        table.add_row(str(number), stage.file.name, f"{size:.1f}", cost, f"{stage.difference:.1e}")
    console.print(table)
    total = sum(stage.file.stat().st_size for stage in written) / 1e6
    print(f"{output}: {len(written)} stages, {total:.1f} MB; ef-asr transcribe --model {output}")


def _check_installed() -> None:
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise UserError(
                f"export: found no package {package}, wanted it: pip install 'ef-asr[export]'"
            ) from None


def _exit_number(exit: str) -> int | None:
    if exit != "all" and not exit.isdecimal():
        raise UserError(f"exit: found {exit!r}, wanted a number from 1, or all")
    return None if exit == "all" else int(exit)
