"""From a file or its bytes to samples: mono, 16 kHz, float32."""

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
    """A file that cannot be read as audio."""


def duration(source: str | Path | bytes, name: str = "") -> float:
    """Return the seconds of an audio file or its bytes, from its header: nothing is decoded.

    Raises
    ------
    AudioError
        If it is missing, no audio, or empty; the message names ``name`` or the path.
    """
    info, shown = _read(source, name, soundfile.info)
    if info.frames == 0:
        raise AudioError(f"{shown}: found no samples")
    return float(info.duration)


def load(source: str | Path | bytes, name: str = "") -> Tensor:
    """Return the samples ``[samples]`` of an audio file or its bytes, in -1..1.

    Whatever soundfile reads (WAV, FLAC, MP3, Ogg Opus ...), at any rate, any number of channels.

    Raises
    ------
    AudioError
        If it is missing, no audio, or empty; the message names ``name`` or the path.
    """
    decode = partial(soundfile.read, dtype="float32", always_2d=True)
    (samples, rate), shown = _read(source, name, decode)
    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=1)))
    if len(mono) == 0:
        raise AudioError(f"{shown}: found no samples")
    if rate != SAMPLE_RATE:
        mono = torchaudio.functional.resample(mono, rate, SAMPLE_RATE)
    if not bool(torch.isfinite(mono).all()):
        raise AudioError(f"{shown}: found samples that are not finite")
    return mono


def _read(
    source: str | Path | bytes, name: str, how: Callable[[io.BytesIO | str], Any]
) -> tuple[Any, str]:
    """Return what one of soundfile's functions finds, and what to call the source."""
    shown = name or (str(source) if not isinstance(source, bytes) else "audio bytes")
    try:
        return how(io.BytesIO(source) if isinstance(source, bytes) else str(source)), shown
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"{shown}: found no readable audio ({error})") from error
