"""Transcribe files of audio with a saved model."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from efmodel.decoding.long_form import joined_logits
from efmodel.model import loading
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.speech import audio
from efmodel.speech.text import decode_greedily


def transcribe_files(
    files: Iterable[Path], folder: Path, exit: int | None = None
) -> Iterator[tuple[Path, str | audio.AudioError]]:
    """Yield each file with its words, or with the error if it cannot be transcribed.

    Whatever goes wrong with one file, the others are transcribed.

    Parameters
    ----------
    files : Iterable[Path]
        WAV, FLAC, MP3 or Ogg, at any sample rate.
    folder : Path
        A saved model, or a run folder.
    exit : int, optional
        The exit at which the model is cut; by default it is used whole.

    Raises
    ------
    ModelError
        If the folder holds no model, or the model has no such exit.
    """
    logging.disable_progress_bar()
    model, tokenizer = loading.load(folder, exit)
    for file in files:
        try:
            yield file, transcribe(model, tokenizer, file)
        except audio.AudioError as error:
            yield file, error
        except Exception as error:
            reason = str(error) or type(error).__name__
            yield file, audio.AudioError(f"{file}: could not be transcribed ({reason})")


@torch.no_grad()
def transcribe(model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase, file: Path) -> str:
    """Return the words of a recording at the model's deepest exit.

    Raises
    ------
    AudioError
        If the file cannot be read.
    """
    samples = audio.load(file)
    if model.config.num_frames(len(samples)) == 0:
        return ""
    logits = joined_logits(model, samples)[-1]
    return decode_greedily(logits[None], torch.tensor([len(logits)]), tokenizer)[0]
