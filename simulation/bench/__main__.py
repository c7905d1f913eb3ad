"""``python -m simulation.bench NAME``: a table on the screen, and the figures as JSON."""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from simulation.bench import (
    aggregate,
    conformer,
    data,
    device,
    frozen,
    memory,
    scale,
    secure,
    simulate,
    startup,
    traffic,
    train,
)
from simulation.bench.figure import Figure

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "aggregate": aggregate.run,
    "bytes": traffic.run,
    "conformer": conformer.run,
    "data": data.run,
    "device": device.run,
    "frozen": frozen.run,
    "memory": memory.run,
    "scale": scale.run,
    "secure": secure.run,
    "simulate": simulate.run,
    "startup": startup.run,
    "train": train.run,
}


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Some of {', '.join(BENCHMARKS)}; all by default.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
) -> None:
    """Run benchmarks, print their figures as a table, and write them as JSON."""
    figures: list[Figure] = []
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"found {name!r}, wanted some of {', '.join(BENCHMARKS)}")
        figures += BENCHMARKS[name]()
    table = Table("what", "measured", "reference", "ratio", "unit", "reference is")
    for figure in figures:
        table.add_row(
            figure.what, f"{figure.measured:.4g}", f"{figure.reference:.4g}",
            f"{figure.ratio:.3f}", figure.unit, figure.reference_is,
        )  # fmt: skip
    Console().print(table)
    if output is not None:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.processor() or platform.machine(),
            "versions": {name: version(name) for name in ("flwr", "torch", "numpy")},
        }
        record = {**about, "figures": [figure.as_dict() for figure in figures]}
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
