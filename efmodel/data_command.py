"""``ef-asr data``: what a corpus holds, and what of it would be left out and why."""

from pathlib import Path
from typing import Annotated

import typer


def data(
    name: Annotated[str, typer.Argument(help="A folder of recordings, or a corpus by name.")],
    model: Annotated[
        str, typer.Option(help="Whose vocabulary and frames: a preset, or a saved model's folder.")
    ] = "tiny",
    data_path: Annotated[
        Path | None, typer.Option(help="A local copy of a corpus on the Hub.")
    ] = None,
) -> None:
    """Count a corpus: speakers, hours, vocabulary, and what would be skipped and why.

    Lengths are read from headers: a file broken behind its header is found in training only.
    """
    from rich.console import Console
    from rich.table import Table

    from efmodel import census, corpus, saved, text
    from efmodel.config import PRESETS, preset

    try:
        if model in PRESETS:
            config, tokenizer = preset(model), text.of_preset(model)
        else:
            recogniser, tokenizer = saved.load(Path(model).expanduser(), None)
            config = recogniser.config
        source, folder = corpus.named(name)
        found = corpus.load(source, folder or str(data_path or ""))
    except (saved.ModelError, corpus.DataError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None

    halves = {"train": census.take(found.train, tokenizer, config, to_train=True)}
    if found.test is not None:
        halves["test"] = census.take(found.test, tokenizer, config, to_train=False)
    table = Table("", *halves)
    columns = [half.figures() for half in halves.values()]
    for what in columns[0]:
        table.add_row(what, *(column[what] for column in columns))
    Console().print(table)
    for half, counted in halves.items():
        for line in counted.remarks():
            print(f"{half}: {line}")
