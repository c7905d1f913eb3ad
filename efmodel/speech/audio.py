"""Read audio files: mono samples at 16 kHz, float32."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.errors import UserError


class AudioError(UserError):
    """An audio file that is missing, broken or empty."""


def duration(source: str | Path | bytes, name: str = "") -> float:
    """Return the duration in seconds of an audio file or its bytes; only the header is read.

    Raises
    ------
    AudioError
        If it is missing, no audio, or empty; the message starts with ``name`` or the path.
    """
    info, label = _read(source, name, soundfile.info)
    if info.frames == 0:
        raise AudioError(f"{label}: found no samples, wanted audio")
    return float(info.duration)


def load(source: str | Path | bytes, name: str = "") -> Tensor:
    """Return the samples ``[samples]`` of an audio file or its bytes, between -1 and 1.

    Any format that soundfile reads (WAV, FLAC, MP3, Ogg Opus ...), any sample rate, any number of
    channels.

    Raises
    ------
    AudioError
        If it is missing, no audio, or empty, or has infinite or undefined samples; the message
        starts with ``name`` or the path.
    """
    decode = partial(soundfile.read, dtype="float32", always_2d=True)
    (samples, rate), label = _read(source, name, decode)
    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=1)))
    if len(mono) == 0:
        raise AudioError(f"{label}: found no samples, wanted audio")
    if rate != SAMPLE_RATE:
        mono = torchaudio.functional.resample(mono, rate, SAMPLE_RATE)
    if not bool(torch.isfinite(mono).all()):
        raise AudioError(f"{label}: found infinite or undefined samples, wanted finite numbers")
    return mono


def _read(
    source: str | Path | bytes, name: str, reader: Callable[[io.BytesIO | str], Any]
) -> tuple[Any, str]:
    """Return the result of one of soundfile's functions, and the source's name for messages."""
    label = name or ("audio bytes" if isinstance(source, bytes) else str(source))
    try:
        return reader(io.BytesIO(source) if isinstance(source, bytes) else str(source)), label
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"{label}: found no readable audio ({error})") from error
