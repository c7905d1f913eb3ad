"""``ef-asr transcribe``: recordings to words."""

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

    from efmodel import audio, saved
    from efmodel.text import decode_greedily

    logging.disable_progress_bar()
    try:
        recogniser, tokenizer = saved.load(model, exit)
    except saved.ModelError as error:
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
