"""The commands ``ef-asr transcribe`` and ``ef-asr listen``."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from efmodel.errors import UserError, shown_errors
from efmodel.export.folder import is_exported
from efmodel.light_imports import prepare_transformers

if TYPE_CHECKING:
    from efmodel.decoding.output import Output
    from efmodel.decoding.recogniser import Recogniser
    from efmodel.decoding.screen import Screen, Tally
    from efmodel.decoding.sources import Source

Model = Annotated[
    Path, typer.Option(help="A saved model's folder, a run folder, or an exported model's folder.")
]
Exit = Annotated[str, typer.Option(help="Exit at which each recording stops: a number, or auto.")]
Policy = Annotated[
    str,
    typer.Option(help="With --exit auto: what decides, such as confidence+agreement."),
]
Deadline = Annotated[
    float | None,
    typer.Option(help="Seconds that a recording, or 30 s of a long one, may take.", min=0),
]
LanguageModel = Annotated[
    Path | None, typer.Option(help="A language model of words: an ARPA file.", show_default=False)
]
HotWords = Annotated[str, typer.Option(help="Words that are likely, separated by commas.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]


@shown_errors()
def transcribe(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...")],
    model: Model,
    exit: Exit = "",
    policy: Policy = "",
    deadline: Deadline = None,
    format: Annotated[
        str,
        typer.Option(help="txt, json, srt, vtt or tsv; with --output-dir several: srt,json."),
    ] = "txt",
    output_dir: Annotated[
        Path | None, typer.Option(help="Write one file per recording into this folder.")
    ] = None,
    words: Annotated[
        bool,
        typer.Option(
            "--words",
            help="Words one by one: in a terminal coloured if unsure, in tsv a row each, in vtt "
            "with times. JSON always has them.",
        ),
    ] = False,
    columns: Annotated[
        str, typer.Option(help="Columns of a table that have unusual names: audio=datei.")
    ] = "",
    lm: LanguageModel = None,
    hotwords: HotWords = "",
    device: Device = "cpu",
    batch_seconds: Annotated[
        float, typer.Option(help="Seconds of audio that run together.", min=1)
    ] = 30.0,
) -> None:
    """Print what is said in recordings, or write it as subtitles, JSON or tables.

    INPUT is an audio file, a part of one (talk.flac#t=10,25), a folder, a glob in quotes, a list
    (.txt) or a table (.csv, .tsv, .jsonl) of paths, or - for an audio file on standard input.
    """
    from efmodel.decoding.formats import formats_named
    from efmodel.decoding.output import Output
    from efmodel.decoding.screen import Screen, Watched
    from efmodel.decoding.sources import sources, total_seconds
    from efmodel.speech.layouts.layout import Fault

    chosen = formats_named(format)
    found = sources(inputs, parse_columns(columns))
    recordings = [source for source in found if not isinstance(source, Fault)]
    output = Output(recordings, chosen, output_dir, words)
    with Screen(len(recordings)) as screen:
        for row in found:
            if isinstance(row, Fault):
                screen.fail(f"{row.where}: {row.reason}")
        recogniser = load(model, exit, policy, deadline, device, lm, hotwords)
        recogniser.engine = Watched(recogniser.engine, screen)
        screen.begin(total_seconds(recordings) if sys.stderr.isatty() else None)
        began = perf_counter()
        tally = _run(recogniser, recordings, output, screen, batch_seconds)
    failed = len(found) - tally.recordings
    if len(found) > 1 or output_dir or sys.stderr.isatty():
        last = tally.line(failed, perf_counter() - began)
        last += f", written to {output_dir}" if output_dir else ""
        typer.secho(last, dim=True, err=True)
    raise typer.Exit(1 if failed else 0)


def _run(
    recogniser: "Recogniser",
    recordings: "Sequence[Source]",
    output: "Output",
    screen: "Screen",
    batch_seconds: float,
) -> "Tally":
    """Transcribe recordings, and return sums over those that could be read and written."""
    from efmodel.decoding.screen import Tally

    tally = Tally(recogniser.engine.exit_layers)
    heard = recogniser.transcribe_all((source.audio for source in recordings), batch_seconds)
    for number, (_, result) in enumerate(heard):
        try:
            if isinstance(result, UserError):
                raise result
            output.take(number, result, screen)
            tally.add(result)
        except UserError as error:
            screen.fail(str(error))
        screen.finish_one()
    return tally


@shown_errors()
def listen(
    model: Model,
    exit: Exit = "",
    policy: Policy = "",
    deadline: Deadline = None,
    lm: LanguageModel = None,
    hotwords: HotWords = "",
    device: Device = "cpu",
    microphone: Annotated[
        str,
        typer.Option(
            help="Its number or a part of its name, or - for raw samples on standard input: 16-bit "
            "numbers of one channel at 16 kHz."
        ),
    ] = "",
    words: Annotated[
        bool, typer.Option("--words", help="In a terminal, colour words that are unsure.")
    ] = False,
) -> None:
    """Print what is said into the microphone, as it is said; Ctrl-C ends it.

    A line ends where the speaker makes a pause. In a terminal the line that is spoken appears word
    by word, and may change until it ends.
    """
    from efmodel.decoding.listening import listen as heard
    from efmodel.decoding.microphone import opened
    from efmodel.decoding.screen import Lines

    stream = opened(microphone)  # quick to fail, where loading takes seconds
    recogniser = load(model, exit, policy, deadline, device, lm, hotwords)
    if sys.stderr.isatty():
        typer.secho(f"listening to {stream.name}; Ctrl-C ends it", dim=True, err=True)
    with Lines(words) as lines, suppress(KeyboardInterrupt):
        for piece in heard(recogniser, stream.chunks, stream.rate, partial=lines.on_terminal):
            lines.show(piece.result, piece.complete)


def parse_columns(columns: str) -> dict[str, str]:
    """Return the columns that a user named.

    Raises
    ------
    UserError
        If that is no list of pairs.
    """
    from efmodel.speech.layouts.columns import parse

    try:
        return parse(columns)
    except ValueError as error:
        raise UserError(str(error)) from None


def load(
    model: Path,
    exit: str,
    policy: str,
    deadline: float | None,
    device: str,
    lm: Path | None,
    hotwords: str,
) -> "Recogniser":
    """Return a recogniser as a user asked for it.

    Raises
    ------
    UserError
        If there is no such model, exit, policy, device or language model.
    """
    if policy and exit not in ("", "auto"):
        raise UserError(f"policy: found exit {exit} with it, wanted auto, or no policy")
    from efmodel.decoding.recogniser import Recogniser

    if is_exported(model):
        device = "cpu" if device == "auto" else device
    else:
        prepare_transformers()
        device = device_named(device)
    return Recogniser.from_pretrained(
        model,
        exit or ("auto" if policy else None),
        device=device,
        policy=policy,
        deadline=float("inf") if deadline is None else deadline,
        lm=lm,
        hot_words=[word for word in hotwords.split(",") if word.strip()],
    )


def device_named(name: str) -> str:
    """Return a device as torch names it: ``auto`` is a GPU if there is one.

    Raises
    ------
    UserError
        If there is no such device.
    """
    import torch

    found = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if found else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(
            f"device: found {name!r}, wanted cpu, cuda, cuda:1 (the second GPU) or auto"
        )
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: found {torch.cuda.device_count()} GPUs on this machine, wanted {name}"
        )
    return name
