"""The folder of an exported recogniser: ``recogniser.json``, and a graph per stage.

Neither torch nor transformers is needed here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from efmodel import atomic_file
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError

DESCRIPTION = "recogniser.json"
FORMAT = 1  # raised when an older version can no longer read what is written


class ExportError(UserError):
    """A model that cannot be exported, or an exported one that cannot be read."""


@dataclass(frozen=True)
class Description:
    """All that a recogniser needs beside the stages' graphs.

    Attributes
    ----------
    tokens : Sequence of str
        By label.
    blank : int
        The label of CTC's blank.
    space : str
        The token, or the part of a token, that stands between words.
    silent : Sequence of int
        Labels that are not written.
    sample_rate : int
        Hz, of the first stage's samples.
    samples_per_frame : int
        Samples from the start of one frame to that of the next.
    convolutions : Sequence of Sequence of int
        Kernel size, stride and padding (of both sides together) of each convolution over time
        that a waveform goes through: they give the number of its frames.
    exit_layers : Sequence of int
        The layer after which each exit lies, shallow to deep.
    stage_multiply_adds : Sequence of float
        Of each of the E stages, per second of audio.
    exit_thresholds : Mapping
        ``{score's name: E - 1 thresholds}``; empty for a model that was not calibrated.
    exit_policy : str
        The scores that decide, joined by ``+``, unless another policy is asked for.
    normaliser : Mapping
        The fields of the texts' normaliser that differ from the default one's.
    largest_difference : float
        Between a log-probability here and in torch (for int8: in float32), as found when the model
        was exported.
    weights : str
        "float32" or "int8".
    format : int
        ``FORMAT`` of the version that wrote it.
    """

    tokens: Sequence[str]
    blank: int
    space: str
    silent: Sequence[int]
    sample_rate: int
    samples_per_frame: int
    convolutions: Sequence[Sequence[int]]
    exit_layers: Sequence[int]
    stage_multiply_adds: Sequence[float]
    exit_thresholds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    exit_policy: str = "confidence"
    normaliser: Mapping[str, str] = field(default_factory=dict)
    largest_difference: float = 0.0
    weights: str = "float32"
    format: int = FORMAT

    @property
    def num_exits(self) -> int:
        """E."""
        return len(self.exit_layers)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a recording; 0 if it is too short for the model."""
        frames = num_samples
        for kernel, stride, padding in self.convolutions:
            frames = max(0, (frames + padding - kernel) // stride + 1)
        return frames

    def labels(self) -> Tokens:
        """Return what the labels stand for."""
        return Tokens(tuple(self.tokens), self.blank, self.space, frozenset(self.silent))

    def thresholds(self, exit: int) -> dict[str, Sequence[float]]:
        """Return the thresholds of the model that ends at an exit (from 1)."""
        return {name: values[: exit - 1] for name, values in self.exit_thresholds.items()}

    def write(self, folder: Path) -> None:
        """Write the description; it is what makes the folder an exported recogniser's."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        atomic_file.write(folder / DESCRIPTION, f"{text}\n".encode())

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Return the description in a folder.

        Raises
        ------
        ExportError
            If it is damaged, or of a newer format.
        """
        file = folder / DESCRIPTION
        try:
            content: Any = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ExportError(f"{file}: found no readable description ({error})") from None
        version = content.get("format") if isinstance(content, dict) else None
        if version != FORMAT:
            raise ExportError(
                f"{file}: found format {version}, wanted {FORMAT}: export the model again, or "
                "install the version of ef-asr that exported it"
            )
        known = {each.name for each in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise ExportError(f"{file}: found no complete description ({error})") from None


def stage_file(number: int) -> str:
    """Return the name of a stage's graph; stages count from 1."""
    return f"stage-{number}.onnx"


def is_exported(model: str | Path) -> bool:
    """Return whether a folder is that of an exported recogniser."""
    return (Path(model).expanduser() / DESCRIPTION).is_file()
