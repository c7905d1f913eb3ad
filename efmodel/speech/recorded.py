"""The audio of an utterance: in memory, or decoded from its row of a data set on demand."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.errors import UserError
from efmodel.speech import audio, memory, segments

LABELS = ("audio", "text", "speaker")  # columns; any other one says which part of a file is meant

Fields = Mapping[str, Any]  # a row of a data set


class ChangedError(UserError):
    """A recording is no longer what it was when its data set was read."""


class Audio(Protocol):
    """The audio of an utterance."""

    @property
    def seconds(self) -> float:
        """Duration in seconds, known without decoding."""

    @property
    def samples(self) -> Tensor:
        """``[samples]`` at 16 kHz."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """Audio that is decoded already."""

    samples: Tensor

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Recorded:
    """Audio that is decoded when its samples are asked for, and kept while there is room.

    Attributes
    ----------
    rows : Sequence
        A data set. Only a reference: what it holds need not be in memory.
    number : int
        Of the recording's row.
    key : bytes
        Identifies the audio, see :func:`key_of`.
    name : str
        For this machine's log.
    num_samples : int
        At 16 kHz.
    """

    rows: Sequence[Fields]
    number: int
    key: bytes
    name: str
    num_samples: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / SAMPLE_RATE

    @property
    def samples(self) -> Tensor:
        """``[samples]`` at 16 kHz.

        Raises
        ------
        ChangedError
            If the file has changed or disappeared. It may travel to the server, and names no file.
        """
        return memory.of_process().get(self.key, self._decode)

    def _decode(self) -> Tensor:
        try:
            samples = decode(self.rows[self.number], self.name).samples
            if len(samples) == self.num_samples:
                return samples
            fault = f"found {len(samples)} samples, wanted {self.num_samples}"
        except audio.AudioError as error:
            fault = str(error).removeprefix(f"{self.name}: ")
        from flwr.common import log  # takes a second to import

        log(ERROR, "%s: changed since its data set was read: %s", self.name, fault)
        raise ChangedError(
            "data: found a recording that changed during the round; this node's log names it"
        )


def source(row: Fields) -> bytes | str:
    """Return a row's audio: its bytes, or the path of its file."""
    found: bytes | str = row["audio"]["bytes"] or row["audio"]["path"]
    return found


def name_of(row: Fields) -> str:
    """Return a row's name for a person: that of its file."""
    return Path(row["audio"]["path"] or "unnamed").name


def key_of(row: Fields) -> bytes:
    """Return a hash that identifies a row's audio.

    A file is identified by its path, its size and the time of its last change, audio in the data
    set by its bytes.

    Raises
    ------
    OSError
        If the file is missing.
    """
    found = source(row)
    if isinstance(found, bytes):
        content = hashlib.blake2b(found, digest_size=16)
    else:
        status = os.stat(segments.parse(found).file)
        file = (os.path.abspath(found), status.st_size, status.st_mtime_ns)
        content = hashlib.blake2b(repr(file).encode(), digest_size=16)
    if part := {column: row[column] for column in sorted(row) if column not in LABELS}:
        content.update(repr(part).encode())
    return content.digest()


def decode(row: Fields, name: str, longest: float = float("inf")) -> audio.Recording:
    """Decode a row's audio; see :func:`efmodel.speech.audio.decode`."""
    # The samples are the same wherever they are asked for, also where a model computes in bfloat16.
    with torch.autocast("cpu", enabled=False):
        return audio.decode(source(row), name, longest)
