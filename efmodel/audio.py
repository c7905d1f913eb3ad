"""From a file or its bytes to samples: mono, 16 kHz, float32."""

import io
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from efmodel.config import SAMPLE_RATE


class AudioError(ValueError):
    """A file that cannot be read as audio."""


def duration(source: str | Path | bytes, name: str = "") -> float:
    """Return the seconds of an audio file or its bytes, from its header: nothing is decoded.

    Raises
    ------
    AudioError
        If it is missing, no audio, or empty; the message names ``name`` or the path.
    """
    shown = name or (str(source) if not isinstance(source, bytes) else "audio bytes")
    try:
        info = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"{shown}: found no readable audio ({error})") from error
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
    shown = name or (str(source) if not isinstance(source, bytes) else "audio bytes")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise AudioError(f"{shown}: found no readable audio ({error})") from error
    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=1)))
    if len(mono) == 0:
        raise AudioError(f"{shown}: found no samples")
    if rate != SAMPLE_RATE:
        mono = torchaudio.functional.resample(mono, rate, SAMPLE_RATE)
    if not bool(torch.isfinite(mono).all()):
        raise AudioError(f"{shown}: found samples that are not finite")
    return mono
