"""Decode with ffmpeg what libsndfile cannot read: what phones and browsers record.

ffmpeg is a program of its own that a machine may have or not. It is given a file whose format is
one of a short list, and returns samples through a pipe, as fast as they are wanted. No shell is
involved, and ffmpeg may not open the network, nor playlists that name other files.
"""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

# Formats by what their files begin with: (position, bytes), name.
FORMATS = {
    (4, b"ftyp"): "MP4 (m4a, mp4, 3gp, mov)",
    (0, b"\x1a\x45\xdf\xa3"): "WebM or Matroska",
    (0, b"#!AMR"): "AMR",
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"): "WMA",
    (0, b"\xff\xf1"): "AAC",
    (0, b"\xff\xf9"): "AAC",
    (0, b"ADIF"): "AAC",
    (0, b"caff"): "CAF",
    (0, b"NIST_1A"): "NIST SPHERE, compressed",
    (0, b"OggS"): "Ogg",
}
DEMUXERS = "mov,matroska,amr,asf,aac,caf,nistsphere,ogg"
AU_HEADER = struct.Struct(">4s5I")  # magic, start of the samples, size, encoding, rate, channels
FLOAT32 = ">f4"  # AU's encoding 6


class FfmpegError(Exception):
    """A file that ffmpeg cannot decode, or a machine without ffmpeg."""


def format_of(source: str | Path | bytes) -> str:
    """Return the name of a file's format if ffmpeg should be asked, or an empty string."""
    if isinstance(source, bytes):
        start = source[:16]
    else:
        with Path(source).open("rb") as file:
            start = file.read(16)
    return next((name for (at, mark), name in FORMATS.items() if start[at:].startswith(mark)), "")


class Decoder:
    """The first sound track of a file, decoded while it is read. ``close`` it in the end.

    Parameters
    ----------
    source : str, Path or bytes
        A file or its bytes.
    start : float
        Seconds to leave out at its start.

    Attributes
    ----------
    rate, channels : int
        Sample rate in Hz, and number of channels, as in the file.

    Raises
    ------
    FfmpegError
        If there is no ffmpeg, or it finds no sound.
    """

    def __init__(self, source: str | Path | bytes, start: float = 0.0) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise FfmpegError(
                f"found {format_of(source)}, which needs ffmpeg: install it (apt install ffmpeg, "
                "brew install ffmpeg, or conda install ffmpeg), or convert the file"
            )
        self._files = ExitStack()
        try:
            self._start(program, source, start)
        except BaseException:
            self.close()
            raise

    def _start(self, program: str, source: str | Path | bytes, start: float) -> None:
        path = str(source)
        if isinstance(source, bytes):  # MP4 is read from its end, so it cannot come from a pipe
            copy = self._files.enter_context(tempfile.NamedTemporaryFile(prefix="ef-asr-"))
            copy.write(source)
            copy.flush()
            path = copy.name
        self._errors: IO[bytes] = self._files.enter_context(tempfile.TemporaryFile())
        command = [program, "-nostdin", "-v", "error", "-format_whitelist", DEMUXERS]
        command += ["-protocol_whitelist", "file", "-ss", f"{start:.6f}", "-i", f"file:{path}"]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        self._process = self._files.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        )
        self._files.callback(self._process.kill)  # before it is waited for
        header = self._read(AU_HEADER.size)
        if len(header) < AU_HEADER.size:
            raise FfmpegError(f"found no readable audio (ffmpeg: {self._reason()})")
        _, samples, _, _, self.rate, self.channels = AU_HEADER.unpack(header)
        self._read(samples - AU_HEADER.size)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples ``[frames, channels]``, a second at a time.

        Raises
        ------
        FfmpegError
            If ffmpeg ends with an error before the first of them.
        """
        frame = np.dtype(FLOAT32).itemsize * self.channels
        empty = True
        while data := self._read(self.rate * frame):
            whole = len(data) // frame * frame
            samples = np.frombuffer(data[:whole], FLOAT32).astype(np.float32)
            yield samples.reshape(-1, self.channels)
            empty = False
        if empty and self._process.wait():
            raise FfmpegError(f"found no readable audio (ffmpeg: {self._reason()})")

    def close(self) -> None:
        """Stop ffmpeg, and remove the copy of the bytes."""
        self._files.close()

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _reason(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "found no sound"
