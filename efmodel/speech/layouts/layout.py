"""What a layout is: how it is recognised, and the rows that it yields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from efmodel.speech.layouts.columns import Columns


class Row(NamedTuple):
    """A recording with its text, as a layout finds it.

    Attributes
    ----------
    audio : str
        Path of the audio file; see :func:`efmodel.speech.layouts.paths.locate`.
    text : str, optional
        None for a recording without text.
    speaker : str, optional
        None if the layout does not say who speaks.
    start, end : float, optional
        Seconds between which the utterance lies in the file; ``end`` None for the file's end.
    language : str
        As the layout writes it, such as "de"; empty if it does not say.
    half : str
        "train", "test", "dev" or another name where the rows of one file belong to several
        halves; empty for the half of the file.
    """

    audio: str
    text: str | None
    speaker: str | None
    start: float = 0.0
    end: float | None = None
    language: str = ""
    half: str = ""


class Fault(NamedTuple):
    """A row that cannot be used.

    Attributes
    ----------
    where : str
        File and line, or the name of the utterance.
    reason : str
        What was found and what was wanted.
    kind : str
        Name under which such rows are counted.
    """

    where: str
    reason: str
    kind: str = "unusable row"


Rows = Iterator[Row | Fault]
Halves = dict[str, list[Path]]  # the files or folders to read for "train" and for "test"


@dataclass(frozen=True)
class Layout:
    """One way in which recordings and texts lie in a folder.

    Attributes
    ----------
    name : str
        Its name for users.
    form : str
        The files by which it is recognised, for users.
    halves : callable
        Returns the files or folders to read of each half; none if the folder has another layout.
    rows : callable
        Yields the rows of one of them. Only tables use the columns that the run config names.
    """

    name: str
    form: str
    halves: Callable[[Path], Halves]
    rows: Callable[[Path, Columns], Rows]
