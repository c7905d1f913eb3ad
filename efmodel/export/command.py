"""The command ``ef-asr export``: a recogniser for a device without torch."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efmodel.errors import UserError, show, shown_errors
from efmodel.light_imports import prepare_transformers

if TYPE_CHECKING:
    from rich.table import Table

    from efmodel.evaluation import Trial
    from efmodel.export.onnx import ExportedStage

MAX_COST = 0.02  # word errors that int8 may add, as a share of float32's, before it is said aloud
CAPTION = "off by: largest difference of a log-probability from torch's; of int8's from float32's"
GRAPHS = """\
The model as ONNX with {weights} weights, a graph for each stage, which is the layers from one exit
to the next. The stages take {costs} million multiply-adds per second of audio.

```bash
ef-asr transcribe talk.flac --model FOLDER --exit auto
```"""


class Weights(StrEnum):
    """What weights can be rounded to."""

    INT8 = "int8"


class Format(StrEnum):
    """Whose layout is written."""

    ONNX = "onnx"
    ONNX_ASR = "onnx-asr"


@shown_errors()
def export(
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    output: Annotated[Path, typer.Option(help="A new or an empty folder.")],
    exit: Annotated[
        str, typer.Option(help="The exit (from 1) at which the exported model ends, or all.")
    ] = "all",
    format: Annotated[
        Format,
        typer.Option(help="onnx for ef-asr, a graph per stage; onnx-asr: one exit, for onnx-asr."),
    ] = Format.ONNX,
    quantise: Annotated[
        Weights | None, typer.Option(help="Round the weights of linear layers to eight bits.")
    ] = None,
    check: Annotated[
        str, typer.Option(help="Print word error rates on this corpus: a folder, or a name.")
    ] = "",
) -> None:
    """Write a model as ONNX for recognition without torch.

    Each graph is compared with torch; where a log-probability differs by more than 0.001, the
    command ends with an error. `ef-asr transcribe --model OUTPUT` uses what was written, and the
    library onnx-asr what was written with --format onnx-asr.
    """
    _check_installed()
    prepare_transformers()
    from efmodel.model.loading import local_folder, model_folder

    folder, number = model_folder(local_folder(model)), _exit_number(exit)
    if format == Format.ONNX:
        _export(folder, output, number, quantise, check)
    elif check:
        raise UserError("check: found --format onnx-asr, wanted onnx: the word errors are the same")
    else:
        _export_for_onnx_asr(folder, output, number, quantise)


def _export(
    folder: Path, output: Path, exit: int | None, quantise: Weights | None, check: str
) -> None:
    """Write the stages; print what they hold, and what they make of the corpus ``check``."""
    from rich.console import Console

    from efmodel.evaluation import Trial
    from efmodel.export import card, int8
    from efmodel.export.onnx import export as write
    from efmodel.model.loading import load

    trial = Trial.load(folder, check, exit) if check else None
    network, tokenizer = (trial.model, trial.tokenizer) if trial else load(folder, exit)
    console = Console()
    with console.status("exporting") as status:
        written = {"float32": write(network, tokenizer, output, status.update)}
        rates = {"float32": _word_error_rates(output, trial)} if trial else {}
        if quantise:
            status.update("rounding to eight bits")
            written["int8"] = int8.quantise(output)
            if trial:
                rates["int8"] = _word_error_rates(output, trial)
    console.print(_stages(written))
    if trial:
        print(f"{check} ({trial.half}): {len(trial.utterances)} utterances, WER %")
        console.print(_rates(rates))
        _warn(rates)
    weights, last = list(written.items())[-1]
    costs = ", ".join(f"{stage.multiply_adds / 1e6:.1f}" for stage in last)
    card.write(output, folder, GRAPHS.format(weights=weights, costs=costs))
    total = sum(stage.size for stage in last) / 1e6
    print(f"{output}: {len(last)} stages, {total:.1f} MB; ef-asr transcribe --model {output}")


def _export_for_onnx_asr(
    folder: Path, output: Path, exit: int | None, quantise: Weights | None
) -> None:
    """Write one exit for the library onnx-asr."""
    from efmodel.export import card, onnx_asr
    from efmodel.model.loading import load

    network, tokenizer = load(folder, exit)
    difference = onnx_asr.export(network, tokenizer, output, int8=quantise == Weights.INT8)
    card.write(output, folder, f"Exit {network.config.num_exits} for the library onnx-asr.")
    print(f"largest difference of a log-probability from torch's: {difference:.1e}")
    for file in sorted(output.glob("*.onnx")):
        print(f"{file}: exit {network.config.num_exits}, {file.stat().st_size / 1e6:.1f} MB")


def _word_error_rates(folder: Path, trial: "Trial") -> list[float]:
    """Return the WER of an exported recogniser at each exit."""
    from efmodel.decoding.observing import observe
    from efmodel.evaluation import BATCH_SECONDS
    from efmodel.export.folder import Description
    from efmodel.export.runtime import Engine

    engine = Engine(folder, Description.read(folder))
    observed = observe(engine, trial.tokenizer, trial.utterances, [], BATCH_SECONDS)
    rates: list[float] = (observed.errors.sum(1) / observed.words.sum()).tolist()
    return rates


def _stages(written: "Mapping[str, Sequence[ExportedStage]]") -> "Table":
    """Return the table of stages; ``written`` holds float32's, and perhaps int8's."""
    from rich.table import Table

    table = Table("file", "multiply-adds", caption=CAPTION)
    for weights in written:
        table.add_column(weights)
        table.add_column("off by")
    for stages in zip(*written.values(), strict=True):
        cells = (each for s in stages for each in (f"{s.size / 1e6:.1f} MB", f"{s.difference:.1e}"))
        table.add_row(stages[0].file.name, f"{stages[0].multiply_adds / 1e6:.1f} M/s", *cells)
    return table


def _rates(rates: Mapping[str, Sequence[float]]) -> "Table":
    """Return the table of word error rates at each exit."""
    from rich.table import Table

    table = Table("exit", *rates)
    for number, at_exit in enumerate(zip(*rates.values(), strict=True), start=1):
        table.add_row(str(number), *(f"{100 * rate:.2f}" for rate in at_exit))
    return table


def _warn(rates: Mapping[str, Sequence[float]]) -> None:
    """Say aloud where int8 costs more than ``MAX_COST``."""
    pairs = zip(rates["float32"], rates.get("int8", []), strict=False)
    for number, (float32, int8) in enumerate(pairs, start=1):
        if int8 > (1 + MAX_COST) * float32:
            show(
                f"exit {number}: int8 raises WER from {100 * float32:.2f} % to {100 * int8:.2f} %, "
                f"wanted at most {100 * MAX_COST:g} % of it more; without --quantise the weights "
                "stay float32"
            )


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
