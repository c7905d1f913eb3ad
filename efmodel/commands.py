"""The commands ``ef-asr transcribe``, ``evaluate`` and ``data``."""

from pathlib import Path
from typing import Annotated

import typer


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    exit: Annotated[int | None, typer.Option(help="Cut the model at this exit.")] = None,
) -> None:
    """Print the words of each recording: WAV, FLAC, MP3 or Ogg, at any sample rate."""
    import torch
    from transformers.utils import logging

    from efmodel.model import loading
    from efmodel.speech import audio
    from efmodel.speech.text import decode_greedily

    logging.disable_progress_bar()
    try:
        recogniser, tokenizer = loading.load(model, exit)
    except loading.ModelError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    failed = False
    for file in files:
        try:
            samples = audio.load(file)
        except audio.AudioError as error:
            typer.secho(str(error), fg="red", err=True)
            failed = True
            continue
        words = ""
        if recogniser.config.num_frames(len(samples)) > 0:
            with torch.no_grad():
                output = recogniser(samples[None])
            words = decode_greedily(output.logits[-1], output.lengths, tokenizer)[0]
        print(f"{file}: {words}" if len(files) > 1 else words)
    raise typer.Exit(1 if failed else 0)


def evaluate(
    model: Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")],
    data: Annotated[str, typer.Option(help="A folder of recordings, or a corpus by name.")],
    exit: Annotated[int | None, typer.Option(help="Cut the model at this exit.")] = None,
) -> None:
    """Print loss, WER and CER per exit on the data's test half, or on all of it if it has none."""
    from rich.console import Console
    from rich.table import Table
    from transformers.utils import logging

    from efmodel.evaluation import score
    from efmodel.model import loading
    from efmodel.settings import Settings
    from efmodel.speech import corpus, recordings
    from efmodel.speech.utterances import prepare

    logging.disable_progress_bar()
    try:
        recogniser, tokenizer = loading.load(model, exit)
        source = corpus.load(*corpus.named(data))
    except (loading.ModelError, recordings.DataError) as error:
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

    from efmodel.config import PRESETS, preset
    from efmodel.model import loading
    from efmodel.speech import corpus, recordings, statistics, vocabulary

    try:
        if model in PRESETS:
            config, tokenizer = preset(model), vocabulary.of_preset(model)
        else:
            recogniser, tokenizer = loading.load(Path(model).expanduser(), None)
            config = recogniser.config
        source, folder = corpus.named(name)
        found = corpus.load(source, folder or str(data_path or ""))
    except (loading.ModelError, recordings.DataError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None

    halves = {"train": statistics.count(found.train, tokenizer, config, to_train=True)}
    if found.test is not None:
        halves["test"] = statistics.count(found.test, tokenizer, config, to_train=False)
    table = Table("", *halves)
    columns = [half.figures() for half in halves.values()]
    for what in columns[0]:
        table.add_row(what, *(column[what] for column in columns))
    Console().print(table)
    for half, counted in halves.items():
        for line in counted.remarks():
            print(f"{half}: {line}")


def config(
    word: Annotated[str, typer.Argument(help="A key, or a word to look for in the keys.")] = "",
) -> None:
    """Print the run config's keys with their defaults and meanings."""
    from dataclasses import fields

    from efmodel.settings import Settings

    for each in fields(Settings):
        key = each.name.replace("_", "-")
        if word in key:
            print(f"{key} = {each.default!r}: {each.metadata['meaning']}")
