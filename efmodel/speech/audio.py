"""Read audio files and parts of them: mono samples at 16 kHz, float32.

What a header says of the length may be wrong: unknown, never filled in, or guessed. The samples
count. A source is a path, one with times (:mod:`efmodel.speech.segments`), or a file's bytes.
"""

import math
from itertools import groupby
from logging import getLogger
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.speech import resampling, sound
from efmodel.speech.sound import CANCELLED, named_errors
from efmodel.speech.sound import AudioError as AudioError  # part of this module's interface
from efmodel.speech.sound import NoFileError as NoFileError

FULL_SCALE = 0.999  # amplitude of a sample that was clipped, or nearly


class Recording(NamedTuple):
    """A decoded recording.

    Attributes
    ----------
    samples : Tensor
        ``[samples]`` at 16 kHz: the mean of the channels, or the first one if they cancel out.
    header_seconds : float, optional
        Duration that the header, or the times of a part of a file, give; None if nothing does.
    peak : float
        Largest absolute sample of any channel.
    clipped : float
        Share of the samples that are as large as the format allows.
    part : bool
        Whether it is a part of a file.
    cancelled : bool
        Whether the channels cancel each other out.
    """

    samples: Tensor
    header_seconds: float | None
    peak: float
    clipped: float = 0.0
    part: bool = False
    cancelled: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def remark(self) -> str:
        """How the header differs from what was decoded, or an empty string."""
        return sound.remark(self.header_seconds, self.seconds, self.part)


class Info(NamedTuple):
    """What a recording is, found without decoding it if its header counts the samples.

    Attributes
    ----------
    seconds : float
        Duration.
    form : str
        Name of the file's format, such as "FLAC".
    rate, channels : int
        Sample rate in Hz, and number of channels.
    part : bool
        Whether it is a part of a file.
    ffmpeg : bool
        Whether ffmpeg decodes it.
    """

    seconds: float
    form: str
    rate: int
    channels: int
    part: bool
    ffmpeg: bool


def info(source: str | Path | bytes, name: str = "", longest: float = math.inf) -> Info:
    """Return the duration and the format of an audio file or its bytes.

    The header is enough if its format counts samples. Else, as in MP3, the file is decoded: until
    its end, or until it is longer than ``longest`` seconds.

    Raises
    ------
    AudioError
        As :func:`load`.
    """
    with named_errors(source, name), sound.opened(source) as file:
        seconds = file.counted or 0.0
        if file.counted is None:
            for block, rate in file.blocks:
                seconds += len(block) / rate
                if seconds > longest:
                    break
        if seconds <= 0:
            raise AudioError("found no samples, wanted audio")
        return Info(seconds, file.form, file.rate, file.channels, file.part, file.ffmpeg)


def load(source: str | Path | bytes, name: str = "") -> Tensor:
    """Return the samples ``[samples]`` of an audio file or its bytes, between -1 and 1.

    Any format that soundfile reads (WAV, FLAC, MP3, Ogg Opus ...), any sample rate, any number of
    channels. A header that gives another length is reported on stderr.

    Raises
    ------
    NoFileError
        If there is no such file.
    AudioError
        If it is no audio, or empty, or has infinite or undefined samples; the message starts with
        ``name`` or the path.
    """
    recording = decode(source, name)
    if recording.remark:
        getLogger(__name__).warning("%s: %s", sound.label(source, name), recording.remark)
    return recording.samples


def decode(source: str | Path | bytes, name: str = "", longest: float = math.inf) -> Recording:
    """Decode an audio file or its bytes, but not much further than ``longest`` seconds.

    Raises
    ------
    AudioError
        As :func:`load`.
    """
    with named_errors(source, name), sound.opened(source) as file:
        seconds = peak = 0.0
        values = clipped = 0
        mono: list[tuple[int, Tensor]] = []
        first: list[tuple[int, Tensor]] = []  # the first of several channels
        for block, rate in file.blocks:
            size = np.abs(block)
            peak = max(peak, float(size.max()))
            values, clipped = values + size.size, clipped + int((size >= FULL_SCALE).sum())
            mono.append((rate, torch.from_numpy(block.mean(axis=1))))
            if block.shape[1] > 1:
                first.append((rate, torch.from_numpy(block[:, 0].copy())))
            seconds += len(block) / rate
            if seconds > longest:
                break
        if not mono:
            raise AudioError("found no samples, wanted audio")
        cancelled = len(first) == len(mono) and _amplitude(mono) < CANCELLED * peak
        if cancelled:
            mono = first
        # The files that were joined to an MP3 may have different rates.
        by_rate = groupby(mono, key=itemgetter(0))
        parts = [resample(torch.cat([x for _, x in blocks]), rate) for rate, blocks in by_rate]
        samples = torch.cat(parts)
        if not bool(torch.isfinite(samples).all()):
            raise AudioError("found infinite or undefined samples, wanted finite numbers")
        return Recording(samples, file.header, peak, clipped / values, file.part, cancelled)


def _amplitude(blocks: list[tuple[int, Tensor]]) -> float:
    return max(float(block.abs().max()) for _, block in blocks)


def resample(samples: Tensor, rate: int) -> Tensor:
    """Return samples ``[samples]`` of any sample rate at 16 kHz."""
    return torch.from_numpy(resampling.resample(samples.numpy(), rate))
