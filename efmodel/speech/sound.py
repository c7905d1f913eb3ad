"""Open a sound file, or a part of it, and read it in blocks: whatever format it has."""

import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import SEEK_END, SEEK_SET, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from efmodel.errors import UserError
from efmodel.speech import ffmpeg
from efmodel.speech.segments import WHOLE, Segment, parse

MP3_FRAME = 1152  # samples; the most that is lost where an MP3 file is cut off
UNKNOWN = 1 << 62  # frames or more: libsndfile's way to say that the header does not know
SAMPLE_RATES = (1_000, 1_000_000)  # Hz; any other one is a header's mistake
TOLERANCE = 0.1  # seconds by which a header may be wrong without a remark; MP3 encoders pad
CANCELLED = 0.01  # share of the channels' amplitude that is left in the mean of opposite channels
# Formats in which libsndfile finds a time exactly; in others what comes before it is decoded.
SEEKABLE = ("WAV", "WAVEX", "FLAC", "NIST", "W64", "RF64", "AIFF", "AU", "CAF")

Blocks = Iterator[tuple[NDArray[np.float32], int]]  # [frames, channels], and the sample rate


class AudioError(UserError):
    """An audio file that is missing, broken or empty."""


class NoFileError(AudioError):
    """An audio file that is missing."""


class _File(soundfile.SoundFile):  # type: ignore[misc]
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


class Sound(NamedTuple):
    """A file, or a part of it, that is open to be decoded.

    Attributes
    ----------
    form : str
        Name of the format.
    rate, channels : int
        Sample rate in Hz, and number of channels.
    header : float, optional
        Seconds that the header or the part's times give.
    counted : float, optional
        Seconds, if the header counts samples.
    blocks : Blocks
        The samples.
    part : bool
        Whether it is a part of a file.
    ffmpeg : bool
        Whether ffmpeg decodes it.
    """

    form: str
    rate: int
    channels: int
    header: float | None
    counted: float | None
    blocks: Blocks
    part: bool
    ffmpeg: bool = False


@contextmanager
def opened(source: str | Path | bytes) -> Iterator[Sound]:
    """Open a file, a part of it, or a file's bytes, with ffmpeg if libsndfile cannot."""
    segment = WHOLE if isinstance(source, bytes) else parse(os.fspath(source))
    file = source if isinstance(source, bytes) else segment.file
    try:
        handle = _open(file)
    except soundfile.LibsndfileError:
        form = ffmpeg.format_of(file)
        if not form:
            raise
        with closing(ffmpeg.Decoder(file, segment.start)) as decoder:
            seconds = segment.end - segment.start
            blocks = ((block, decoder.rate) for block in decoder.blocks())
            yield Sound(
                form=form,
                rate=decoder.rate,
                channels=decoder.channels,
                header=seconds if math.isfinite(seconds) else None,
                counted=None,
                blocks=_between(blocks, 0.0, seconds),
                part=not segment.whole,
                ffmpeg=True,
            )
        return
    with handle:
        yield _part_of(handle, file, segment)


def _part_of(file: _File, source: str | bytes, segment: Segment) -> Sound:
    """Return a part of a file that libsndfile opened."""
    start, end = segment.start, segment.end
    total = file.frames / file.samplerate if file.frames < UNKNOWN else math.inf
    header = min(end, total) - start if end == math.inf else end - start
    is_counted = file.format != "MP3" and 0 < file.frames < UNKNOWN
    if is_counted and start and file.format in SEEKABLE:
        at = min(file.frames, round(start * file.samplerate))
        file.seek(at)
        blocks = _between(_read(file, file.samplerate, at), 0.0, end - start)
    else:
        blocks = _between(_blocks(file, source), start, end)
    return Sound(
        form=file.format,
        rate=file.samplerate,
        channels=file.channels,
        header=header if math.isfinite(header) else None,
        counted=max(0.0, min(end, total) - start) if is_counted else None,
        blocks=blocks,
        part=not segment.whole,
    )


def _between(blocks: Blocks, start: float, end: float) -> Blocks:
    """Yield what lies between two times of blocks, in seconds from the first one."""
    position = 0.0
    for block, rate in blocks:
        first = max(0, round((start - position) * rate))
        last = len(block) if end == math.inf else max(0, round((end - position) * rate))
        if len(part := block[first:last]):
            yield part, rate
        position += len(block) / rate
        if position >= end:
            return


def _open(source: str | bytes) -> _File:
    if isinstance(source, bytes):
        return _File(BytesIO(source))
    with Path(source).open("rb"):  # of a missing file libsndfile says "System error"
        return _File(os.fsencode(source))


def _blocks(file: _File, source: str | bytes) -> Blocks:
    """Yield all blocks of a file that was just opened."""
    if file.format == "MP3":
        yield from _mp3_blocks(_bytes(source))
    elif file.format in ("WAV", "WAVEX") and file.frames == 0:
        # A recorder that was killed left the size of the data at 0: the rest of the file is data.
        unclosed = _bytes(source).replace(b"data" + bytes(4), b"data" + b"\xff" * 4, 1)
        with _File(BytesIO(unclosed)) as whole:
            yield from _read(whole, whole.samplerate)
    else:
        yield from _read(file, file.samplerate)


def _mp3_blocks(data: bytes) -> Blocks:
    """Yield the blocks of an MP3 file, or of several that were joined.

    A header in the first frame counts the frames of one file; another one may follow.
    """
    while data:
        counted = any(tag in data for tag in (b"Xing", b"Info", b"VBRI"))
        file = BytesIO(data) if counted else _Endless(data)
        try:
            with _File(file) as sound:
                yield from _read(sound, MP3_FRAME)
        except soundfile.LibsndfileError:
            return  # the last frame is cut off, or what follows is no MP3 but a tag
        data = file.read()


def _read(file: _File, size: int, at: int = 0) -> Blocks:
    """Yield blocks of at most ``size`` frames from ``at`` to the header's end, or the decoder's."""
    left = file.frames - at
    while left > 0:
        block = file.read(out=np.empty((min(left, size), file.channels), np.float32))
        if len(block) == 0:
            return
        left -= len(block)
        yield block, file.samplerate


def _bytes(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def remark(header: float | None, seconds: float, part: bool) -> str:
    """Return how a header differs from what was decoded, or an empty string.

    Parameters
    ----------
    header : float, optional
        Seconds that the header, or the times of a part of a file, give; None if nothing does.
    seconds : float
        Seconds that were decoded.
    part : bool
        Whether it is a part of a file.
    """
    if header is None or abs(header - seconds) <= TOLERANCE:
        return ""
    says = "times say" if part else "header says"
    return f"found {seconds:.2f} s of audio, its {says} {header:.2f} s"


def label(source: str | Path | bytes, name: str) -> str:
    """Return what to call a recording in messages: its name if it has one, else its path."""
    return name or ("audio bytes" if isinstance(source, bytes) else str(source))


@contextmanager
def named_errors(source: str | Path | bytes, name: str) -> Iterator[None]:
    """Turn whatever goes wrong with a recording into an ``AudioError`` that starts with its name.

    One boundary: no file, however broken, ends the work on the others.
    """
    found = label(source, name)
    try:
        yield
    except (AudioError, ffmpeg.FfmpegError) as error:
        raise AudioError(f"{found}: {error}") from None
    except FileNotFoundError as error:
        raise NoFileError(f"{found}: found no file, wanted audio") from error
    except Exception as error:
        raise AudioError(f"{found}: found no readable audio ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string)  # without the file's name
    return str(error) or type(error).__name__
