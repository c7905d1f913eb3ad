"""A device that only listens: seconds per second of audio, and peak memory.

    python -m simulation.bench.device [--model PRESET|RUN]... [--picture FILE.png]

Each model in torch, as ONNX and as ONNX with int8, on one and on two threads, each in a process of
its own. Presets have random weights: speed and memory do not depend on them, but where adaptive
exits stop does, so only a calibrated RUN has that column, measured on the sample's test half.

The picture estimates Raspberry Pis: seconds on one thread here, times the ratio of the speeds at
which one core here and one core there solve linear equations in float64 (Linpack).
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from efmodel.config import PRESETS, SAMPLE_RATE, preset
from efmodel.export import int8
from efmodel.export.onnx import export, voice
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.loading import load, local_folder
from efmodel.speech import vocabulary
from simulation.bench.figure import Figure
from simulation.bench.listener import Measured, linpack, measure
from simulation.bench.process import in_own_process
from simulation.speech import sample

MODELS = ["tiny", "small", "paper", "wav2vec2-base"]
THREADS = (1, 2)
ENGINES = ("torch", "ONNX", "ONNX int8")
LONGEST = 30.0  # seconds of the longest recording: a window of a long one
SPEECH = 60.0  # seconds of speech, for adaptive exits
# Gflops of four cores, High-Performance Linpack, from the README of geerlingguy/top500-benchmark.
# Its int8 has no figure for the Pi 4: that processor lacks the instructions for products of bytes.
LINPACK_OF_FOUR = {"Raspberry Pi 4": 11.889, "Raspberry Pi 5": 30.249}


@dataclass(frozen=True)
class Row:
    """What one engine takes with one model, on so many threads."""

    model: str
    engine: str
    threads: int
    took: Measured


def listen(models: Sequence[str]) -> list[Row]:
    """Measure models: presets, or calibrated runs."""
    with TemporaryDirectory() as folder:
        recording = Path(folder, "longest.wav")
        soundfile.write(recording, voice(LONGEST, np.random.default_rng(0)), SAMPLE_RATE)
        speech = write_speech(Path(folder, "speech"))
        rows = []
        for number, model in enumerate(track(models, "device", transient=True)):
            folders, calibrated = write_model(model, Path(folder, str(number)))
            for threads in THREADS:
                for engine, place in zip(ENGINES, folders, strict=True):
                    given = speech if calibrated else []
                    took = in_own_process(measure, str(place), threads, str(recording), given)
                    rows.append(Row(Path(model).name, engine, threads, took))
    return rows


def write_speech(folder: Path) -> list[str]:
    """Write the first recordings of the sample's test half, ``SPEECH`` in all; return the files."""
    folder.mkdir()
    files, seconds = [], 0.0
    half = sample.load().test
    assert half is not None  # the sample has one
    for number, audio in enumerate(half["audio"]):
        if seconds >= SPEECH:
            break
        files.append(str(folder / f"{number}.flac"))
        Path(files[-1]).write_bytes(audio["bytes"])
        seconds += soundfile.info(files[-1]).duration
    return files


def write_model(model: str, folder: Path) -> tuple[list[Path], bool]:
    """Write a model for each engine; return the folders, and whether it was calibrated."""
    if model in PRESETS:
        torch.manual_seed(0)
        tokenizer = vocabulary.of_preset(model)
        sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        network = EarlyExitForCTC(preset(model, **sizes)).eval()
    else:
        network, tokenizer = load(local_folder(model))
    saved, float32, eight = (folder / name for name in ("saved", "float32", "int8"))
    network.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    export(network, tokenizer, float32)
    shutil.copytree(float32, eight)
    int8.quantise(eight)
    return [saved, float32, eight], bool(network.config.exit_thresholds)


def run() -> list[Figure]:
    """Measure the presets; the figures are those of the deepest exits."""
    rows = listen(MODELS)
    figures = []
    for row in rows:
        [reference] = [
            other.took
            for other in rows
            if (other.model, other.threads, other.engine) == (row.model, row.threads, "torch")
        ]
        if row.engine != "torch":
            what = f"{row.model}, {row.engine}, {row.threads} threads"
            pairs = {
                "s per s of audio": (row.took["exits"][-1], reference["exits"][-1]),
                "MB at most": (row.took["peak"], reference["peak"]),
            }
            figures += [Figure(what, *pair, unit, "torch") for unit, pair in pairs.items()]
    return figures


def main(
    model: Annotated[
        list[str], typer.Option(help="A preset, or a calibrated run's folder; repeatable.")
    ] = MODELS,
    picture: Annotated[Path | None, typer.Option(help="Draw Raspberry Pis here.")] = None,
) -> None:
    """Print a table of seconds per second of audio at each exit, and of memory."""
    rows = listen(model)
    print_table(rows)
    speed = in_own_process(linpack)
    print(f"one core here solves linear equations at {speed:.1f} Gflops")
    if picture is not None:
        draw(rows, speed, picture)


def print_table(rows: Sequence[Row]) -> None:
    """Print a row for each process; seconds are milliseconds per second of audio."""
    deepest = max(len(row.took["exits"]) for row in rows)
    exits = (f"exit {exit}" for exit in range(1, deepest + 1))
    table = Table("model", "engine", "threads", *exits, "auto", "start, s", "MB at most")
    for row in rows:
        took = row.took
        times = [f"{1000 * seconds:.1f}" for seconds in took["exits"]]
        times += [""] * (deepest - len(times))
        auto = f"{1000 * took['auto']:.1f}" if took["auto"] else ""
        memory = f"{took['peak']:.0f}"
        cells = (row.model, row.engine, str(row.threads), *times, auto, f"{took['start']:.1f}")
        table.add_row(*cells, memory)
    console = Console(width=140)
    console.print(table)
    console.print("exits, auto: milliseconds per second of audio")


def estimated(rows: Sequence[Row], speed: float, device: str) -> dict[tuple[str, str], list[float]]:
    """Return what one core of a Raspberry Pi is estimated to take, by model and engine.

    The values are seconds per second of audio at each exit.

    Parameters
    ----------
    rows : Sequence of Row
        What was measured here.
    speed : float
        Of one core here at solving linear equations, in Gflops.
    device : str
        One of ``LINPACK_OF_FOUR``.
    """
    engines = {"Raspberry Pi 4": ["ONNX"], "Raspberry Pi 5": ["ONNX", "ONNX int8"]}[device]
    ratio = speed / (LINPACK_OF_FOUR[device] / 4)
    return {
        (row.model, row.engine): [ratio * seconds for seconds in row.took["exits"]]
        for row in rows
        if row.threads == 1 and row.engine in engines
    }


def draw(rows: Sequence[Row], speed: float, file: Path) -> None:
    """Draw what Raspberry Pis are estimated to take, from the arguments of ``estimated``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(12, 4.2), sharey=True, layout="constrained")
    models = list(dict.fromkeys(row.model for row in rows))
    for panel, device in zip(panels, LINPACK_OF_FOUR, strict=True):
        for (model, engine), seconds in estimated(rows, speed, device).items():
            panel.semilogy(
                range(1, len(seconds) + 1),
                seconds,
                {"ONNX": "o-", "ONNX int8": "s--"}[engine],
                color=f"C{models.index(model)}",
                label=f"{model}, {engine}",
            )
        panel.axhline(1.0, color="grey", linestyle=":", label="as long as the audio")
        panel.set_title(f"{device}, one core, estimated")
        panel.set_xlabel("exit")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds per second of audio")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    typer.run(main)
