"""``ef-asr evaluate``: WER and CER of a saved model on a data set, exit by exit."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    data: Annotated[str, typer.Option(help="A folder of recordings, or a corpus by name.")],
    exit: Annotated[int | None, typer.Option(help="Cut the model at this exit.")] = None,
) -> None:
    """Print loss, WER and CER per exit on the data's test half, or on all of it if it has none."""
    from rich.console import Console
    from rich.table import Table
    from transformers.utils import logging

    from efmodel import corpus, saved
    from efmodel.evaluation import score
    from efmodel.settings import Settings
    from efmodel.utterances import prepare

    logging.disable_progress_bar()
    try:
        recogniser, tokenizer = saved.load(model, exit)
        source = corpus.load(*corpus.named(data))
    except (saved.ModelError, corpus.DataError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    half = "all" if source.test is None else "test"
    dataset = source.train if source.test is None else source.test
    utterances, skipped = prepare(dataset, tokenizer, recogniser.config, to_train=False)
    skipped.log(half)
    if not utterances:
        typer.secho(f"data: found no readable utterance in {data}", fg="red", err=True)
        raise typer.Exit(1)
    seconds = sum(utterance.seconds for utterance in utterances)
    print(f"{data} ({half}): {len(utterances)} utterances, {seconds / 60:.1f} minutes")
    table = Table("exit", "loss", "WER %", "CER %")
    scores = score(recogniser, utterances, tokenizer, Settings.batch_seconds)
    for number, at in enumerate(scores, start=1):
        table.add_row(str(number), f"{at.loss:.3f}", f"{100 * at.wer:.2f}", f"{100 * at.cer:.2f}")
    Console().print(table)
