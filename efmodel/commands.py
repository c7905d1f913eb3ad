"""The commands ``ef-asr evaluate``, ``data`` and ``config``."""

from pathlib import Path
from typing import Annotated

import typer

from efmodel.errors import show, shown_errors
from efmodel.light_imports import prepare_transformers, skip_compiler_and_sharding

Model = Annotated[Path, typer.Option(help="A saved model's folder, or a run folder.")]
Exit = Annotated[int | None, typer.Option(help="Cut the model at this exit.")]


@shown_errors()
def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="A folder of recordings, or a corpus by name.")],
    exit: Exit = None,
    language: Annotated[
        str, typer.Option(help="Normalise texts for this language; empty: as the model's own.")
    ] = "",
    lm: Annotated[
        Path | None, typer.Option(help="Search with this language model, an ARPA file.")
    ] = None,
    hotwords: Annotated[
        str, typer.Option(help="Search with words that are likely, separated by commas.")
    ] = "",
) -> None:
    """Print loss, WER and CER per exit on the data's test half, or on all of it if it has none."""
    from rich.console import Console
    from rich.table import Table

    prepare_transformers()
    from efmodel.decoding.observing import adaptive_score
    from efmodel.evaluation import BATCH_SECONDS, Trial
    from efmodel.settings import Settings

    settings = Settings.from_run_config({"language": language})
    likely = [word for word in hotwords.split(",") if word.strip()]
    trial = Trial.load(model, data, exit, settings.normaliser if language else None)
    scores = trial.scores(lm, likely)
    minutes = trial.seconds / 60
    print(f"{data} ({trial.half}): {len(trial.utterances)} utterances, {minutes:.1f} minutes")
    print(f"texts and transcripts normalised for {trial.texts}")
    table = Table("exit", "loss", "WER %", "CER %")
    for number, at in enumerate(scores, start=1):
        table.add_row(str(number), f"{at.loss:.3f}", f"{100 * at.wer:.2f}", f"{100 * at.cer:.2f}")
    Console().print(table)
    searched = lm is not None or likely
    if exit is None and not searched and trial.model.config.exit_thresholds:
        adaptive = adaptive_score(trial.model, trial.tokenizer, trial.utterances, BATCH_SECONDS)
        print(
            f"auto ({adaptive['policy']}): WER {100 * adaptive['wer']:.2f} %, "
            f"{adaptive['layers']:.1f} layers on average, "
            f"{100 * adaptive['multiply-adds']:.0f} % of the deepest exit's multiply-adds"
        )


@shown_errors()
def data(
    name: Annotated[str, typer.Argument(help="A folder of recordings, or a corpus by name.")],
    model: Annotated[
        str, typer.Option(help="Preset or saved model whose vocabulary and frames count.")
    ] = "tiny",
    vocabulary: Annotated[str, typer.Option(help="As in a run's config.")] = "auto",
    language: Annotated[str, typer.Option(help="As in a run's config, such as de.")] = "",
    data_path: Annotated[
        Path | None, typer.Option(help="A local copy of a corpus on the Hub.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="A table's columns with unusual names: text=satz,speaker=wer.")
    ] = "",
    listen: Annotated[
        int, typer.Option(help="Recordings to decode and examine in each half.", min=0)
    ] = 100,
    write: Annotated[
        Path | None, typer.Option(help="Write the corpus into this folder, in our own layout.")
    ] = None,
    time: Annotated[bool, typer.Option(help="Measure a training step for an estimate.")] = True,
) -> None:
    """Show a corpus before a run: layout, speakers, lengths, letters, what is left out and why.

    Lengths are read from headers, where these count samples: audio that is damaged counts as
    readable. MP3 files, whose headers may guess, and what ffmpeg reads, are decoded.
    """
    from rich.console import Console

    skip_compiler_and_sharding()
    from efmodel import data_screen, round_time
    from efmodel.model.loading import describe_start
    from efmodel.settings import Settings
    from efmodel.speech import corpus
    from efmodel.speech.alphabet import remark_on_digits
    from efmodel.speech.overview import overview
    from efmodel.speech.recordings import Limits
    from efmodel.speech.statistics import tokenizer_of_run
    from efmodel.speech.vocabulary import described, single_letters
    from efmodel.speech.writing import write as write_corpus

    settings = Settings.from_run_config(
        {"model": model, "vocabulary": vocabulary, "language": language, "columns": columns}
    )
    place, folder = corpus.named(name)
    limits = Limits(language=settings.language, columns=settings.columns)
    source = corpus.read(place, folder or str(data_path or ""), limits)
    config, tokenizer = describe_start(settings, tokenizer_of_run(source, settings))
    found = overview(folder or place, source, tokenizer, config, listen)
    speakers = list(found.halves["train"].census.speakers.values())
    measured = None
    if time:
        measured = round_time.measure(found.corpus.train, tokenizer, config, speakers)
    Console().print(data_screen.render(found, measured))
    print(f"vocabulary: {described(tokenizer)}")
    if line := remark_on_digits(single_letters(tokenizer), settings.normaliser):
        print(line)
    if not found.usable:
        show(f"data: found no recording in {name} that can be used")
        raise typer.Exit(1)
    if write is not None:
        done = write_corpus(found.corpus, write)
        print(f"{write}: {', '.join(f'{n} {what}' for what, n in sorted(done.items()))}")


@shown_errors()
def config(
    word: Annotated[
        str, typer.Argument(metavar="[KEY|WORD]", help="A key, or a word to search for.")
    ] = "",
) -> None:
    """Print the run config's keys: meaning, default, allowed values."""
    from rich.console import Console

    from efmodel.settings_table import find_keys, render

    Console(highlight=False).print(render(find_keys(word)))
