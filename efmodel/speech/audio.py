"""Read audio files: mono samples at 16 kHz, float32.

What a header says of the length may be wrong: unknown, never filled in, or guessed. The samples
count.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, SEEK_SET, BytesIO
from itertools import groupby
from logging import getLogger
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.errors import UserError

MP3_FRAME = 1152  # samples; the most that is lost where an MP3 file is cut off
UNKNOWN = 1 << 62  # frames or more: libsndfile's way to say that the header does not know
SAMPLE_RATES = (1_000, 1_000_000)  # Hz; any other one is a header's mistake
TOLERANCE = 0.1  # seconds by which a header may be wrong without a remark; MP3 encoders pad
LARGEST_KERNEL = 1_000_000  # weights of torchaudio's resampling filter; 44.1 kHz needs 77,616


class AudioError(UserError):
    """An audio file that is missing, broken or empty."""


class NoFileError(AudioError):
    """An audio file that is missing."""


class Recording(NamedTuple):
    """A decoded recording.

    Attributes
    ----------
    samples : Tensor
        ``[samples]`` at 16 kHz: the mean of the channels.
    header_seconds : float, optional
        Duration that the header gives; None if it gives none.
    peak : float
        Largest absolute sample of any channel.
    """

    samples: Tensor
    header_seconds: float | None
    peak: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def remark(self) -> str:
        """How the header differs from what was decoded, or an empty string."""
        if self.header_seconds is None or abs(self.header_seconds - self.seconds) <= TOLERANCE:
            return ""
        return f"found {self.seconds:.2f} s of audio, its header says {self.header_seconds:.2f} s"


def duration(source: str | Path | bytes, name: str = "", longest: float = math.inf) -> float:
    """Return the duration in seconds of an audio file or its bytes.

    The header is enough if its format counts samples. Else, as in MP3, the file is decoded: until
    its end, or until it is longer than ``longest`` seconds.

    Raises
    ------
    AudioError
        As :func:`load`.
    """
    with _named(source, name), _open(source) as sound:
        if sound.format != "MP3" and 0 < sound.frames < UNKNOWN:
            return float(sound.frames / sound.samplerate)
        seconds = 0.0
        for block, rate in _blocks(sound, source):
            seconds += len(block) / rate
            if seconds > longest:
                break
        if seconds == 0:
            raise AudioError("found no samples, wanted audio")
        return seconds


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
        getLogger(__name__).warning("%s: %s", _label(source, name), recording.remark)
    return recording.samples


def decode(source: str | Path | bytes, name: str = "", longest: float = math.inf) -> Recording:
    """Decode an audio file or its bytes, but not much further than ``longest`` seconds.

    Raises
    ------
    AudioError
        As :func:`load`.
    """
    with _named(source, name), _open(source) as sound:
        header = sound.frames / sound.samplerate if sound.frames < UNKNOWN else None
        seconds = peak = 0.0
        mono: list[tuple[int, Tensor]] = []
        for block, rate in _blocks(sound, source):
            peak = max(peak, float(np.abs(block).max()))
            mono.append((rate, torch.from_numpy(block.mean(axis=1))))
            seconds += len(block) / rate
            if seconds > longest:
                break
        if not mono:
            raise AudioError("found no samples, wanted audio")
        # The files that were joined to an MP3 may have different rates.
        by_rate = groupby(mono, key=itemgetter(0))
        parts = [resample(torch.cat([x for _, x in blocks]), rate) for rate, blocks in by_rate]
        samples = torch.cat(parts)
        if not bool(torch.isfinite(samples).all()):
            raise AudioError("found infinite or undefined samples, wanted finite numbers")
        return Recording(samples, header, peak)


def resample(samples: Tensor, rate: int) -> Tensor:
    """Return samples ``[samples]`` of any sample rate at 16 kHz.

    torchaudio's filter has a weight for each pair of phases: 0.8 billion for 47,999 Hz. Such rates
    are resampled by their Fourier transform, whose cost depends on the length alone: silence makes
    it a multiple of a time that is a whole number of samples at both rates, at most a second.
    """
    if rate == SAMPLE_RATE:
        return samples
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common  # so many samples take the same time
    if old * new <= LARGEST_KERNEL:
        resampled: Tensor = torchaudio.functional.resample(samples, rate, SAMPLE_RATE)
        return resampled
    times = math.ceil(len(samples) / old)
    spectrum = torch.fft.rfft(samples, times * old)
    # Frequencies above half the new rate are cut off, or there are none.
    whole: Tensor = torch.fft.irfft(spectrum, times * new) * (new / old)
    return whole[: math.ceil(len(samples) * new / old)]


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """An audio file that is read from front to back.

    After each block soundfile seeks to where it is, which is inexact in MP3.

    Raises
    ------
    AudioError
        If its sample rate is none of a recording.
    """

    def __init__(self, file: BytesIO | bytes) -> None:
        super().__init__(file)
        lowest, highest = SAMPLE_RATES
        if not lowest <= self.samplerate <= highest:
            self.close()
            raise AudioError(
                f"found a sample rate of {self.samplerate} Hz, wanted {lowest} to {highest}"
            )

    def seekable(self) -> bool:
        """Return False: no seeking."""
        return False


class _Endless(BytesIO):
    """Bytes that claim to be longer than they are.

    For MP3 without a header the decoder guesses the number of samples from the file's length, and
    stops there. Now it guesses too many, and stops at the real end.
    """

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Seek; the end is said to be far behind the last byte."""
        if whence == SEEK_END and offset == 0:
            return super().seek(1000 * len(self.getbuffer()))
        return super().seek(offset, whence)


Blocks = Iterator[tuple[NDArray[np.float32], int]]  # [frames, channels], and the sample rate


def _open(source: str | Path | bytes) -> _Sound:
    if isinstance(source, bytes):
        return _Sound(BytesIO(source))
    with Path(source).open("rb"):  # of a missing file libsndfile says "System error"
        return _Sound(os.fsencode(source))


def _blocks(sound: _Sound, source: str | Path | bytes) -> Blocks:
    """Yield all blocks of a file that was just opened."""
    if sound.format == "MP3":
        yield from _mp3_blocks(_bytes(source))
    elif sound.format in ("WAV", "WAVEX") and sound.frames == 0:
        # A recorder that was killed left the size of the data at 0: the rest of the file is data.
        unclosed = _bytes(source).replace(b"data" + bytes(4), b"data" + b"\xff" * 4, 1)
        with _Sound(BytesIO(unclosed)) as whole:
            yield from _read(whole, whole.samplerate)
    else:
        yield from _read(sound, sound.samplerate)


def _mp3_blocks(data: bytes) -> Blocks:
    """Yield the blocks of an MP3 file, or of several that were joined.

    A header in the first frame counts the frames of one file; another one may follow.
    """
    while data:
        counted = any(tag in data for tag in (b"Xing", b"Info", b"VBRI"))
        file = BytesIO(data) if counted else _Endless(data)
        try:
            with _Sound(file) as sound:
                yield from _read(sound, MP3_FRAME)
        except soundfile.LibsndfileError:
            return  # the last frame is cut off, or what follows is no MP3 but a tag
        data = file.read()


def _read(sound: _Sound, size: int) -> Blocks:
    """Yield blocks of at most ``size`` frames until the header's end, or the decoder's."""
    left = sound.frames
    while left > 0:
        block = sound.read(out=np.empty((min(left, size), sound.channels), np.float32))
        if len(block) == 0:
            return
        left -= len(block)
        yield block, sound.samplerate


def _bytes(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _label(source: str | Path | bytes, name: str) -> str:
    return name or ("audio bytes" if isinstance(source, bytes) else str(source))


@contextmanager
def _named(source: str | Path | bytes, name: str) -> Iterator[None]:
    """Turn whatever goes wrong with a recording into an ``AudioError`` that starts with its name.

    One boundary: no file, however broken, ends the work on the others.
    """
    label = _label(source, name)
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{label}: {error}") from None
    except FileNotFoundError as error:
        raise NoFileError(f"{label}: found no file, wanted audio") from error
    except Exception as error:
        raise AudioError(f"{label}: found no readable audio ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string)  # without the file's name
    return str(error) or type(error).__name__
