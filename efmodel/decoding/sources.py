"""What to transcribe: files, folders, globs, lists and standard input become named recordings."""

import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

import soundfile

from efmodel.errors import UserError
from efmodel.speech import segments, sound
from efmodel.speech.layouts import any_table, tables
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.layout import Fault, Row
from efmodel.speech.layouts.paths import SUFFIXES, is_audio, locate

STANDARD_INPUT = "-"
LIST = ".txt"  # one path a line
TABLES = any_table.SUFFIXES
PARTS = ("audio", "start", "end", "duration")  # of a table's row
SOME_SUFFIXES = f"{', '.join(SUFFIXES[:4])} ..."


@dataclass(frozen=True)
class Source:
    """A recording to transcribe.

    Attributes
    ----------
    audio : str or file
        A path, maybe with times (:mod:`efmodel.speech.segments`), or an open file.
    name : str
        What to call it.
    inside : PurePath
        Where it lies below the folder, glob or list that named it: its output has that place.
    """

    audio: str | IO[bytes]
    name: str
    inside: PurePath

    @property
    def path(self) -> str:
        """The absolute path, with its times; empty for an open file."""
        return os.path.abspath(self.audio) if isinstance(self.audio, str) else ""


def sources(inputs: Sequence[str], columns: Columns) -> list[Source | Fault]:
    """Return the recordings that a user named, each once, and the rows of lists that name none.

    Parameters
    ----------
    inputs : Sequence of str
        Files, folders, globs, lists (``.txt``) or tables of paths, or ``-`` for standard input.
    columns : Columns
        A table's columns, if their names are unusual.

    Raises
    ------
    UserError
        If a folder, a glob or a list names no recording.
    """
    found: dict[object, Source | Fault] = {}
    for named in inputs:
        for source in _of(named, columns):
            key: object = source
            if isinstance(source, Source):
                key = source.path or STANDARD_INPUT
            found.setdefault(key, source)
    return list(found.values())


def _of(named: str, columns: Columns) -> Iterator[Source | Fault]:
    """Yield what one of the inputs names."""
    path = Path(named)
    if named == STANDARD_INPUT:
        yield _standard_input()
    elif path.is_dir():
        yield from _in_folder(path)
    elif path.is_file() and path.suffix.lower() in (LIST, *TABLES):
        yield from _in_list(path, columns)
    elif glob.has_magic(named) and not os.path.exists(segments.parse(named).file):
        yield from _in_glob(named)
    else:
        yield _file(named, PurePath(segments.parse(named).file).name)


def _file(path: str, inside: str | PurePath) -> Source:
    """Return a recording that is a file, or a part of one, whose times its output's name has."""
    part, inside = segments.parse(path), PurePath(inside)
    if not part.whole:
        times = f"{part.start:g}-" + (f"{part.end:g}" if part.end < float("inf") else "")
        inside = inside.with_name(f"{inside.stem}_{times}{inside.suffix}")
    return Source(path, path, inside)


def _standard_input() -> Source:
    if sys.stdin.isatty():
        raise UserError(
            "-: found a terminal as standard input, wanted the bytes of an audio file, as in "
            "`ef-asr transcribe - < speech.flac`"
        )
    file = io.BytesIO(sys.stdin.buffer.read())
    file.name = "standard input"
    return Source(file, file.name, PurePath("stdin"))


def _in_folder(folder: Path) -> Iterator[Source]:
    """Yield the audio files of a folder and all below it; hidden ones are left out."""
    empty = True
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for path in (Path(place, name) for name in sorted(names) if name[0] != "."):
            if is_audio(path):
                empty = False
                yield _file(str(path), path.relative_to(folder))
    if empty:
        raise UserError(f"{folder}: found no audio file in this folder, wanted {SOME_SUFFIXES}")


def _in_glob(form: str) -> Iterator[Source]:
    """Yield the audio files that match; of other suffixes only those that the glob itself ends in.

    ``**`` stands for any folders.
    """
    suffix = PurePath(form).suffix
    matches = map(Path, sorted(glob.glob(form, recursive=True)))
    files = [path for path in matches if path.is_file()]
    files = [path for path in files if is_audio(path) or path.suffix == suffix]
    if not files:
        raise UserError(f"{form}: found no audio file that matches, wanted {SOME_SUFFIXES}")
    parts = PurePath(form).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    for path in files:
        yield _file(str(path), PurePath(*path.parts[fixed:]))


def _in_list(path: Path, columns: Columns) -> Iterator[Source | Fault]:
    """Yield the recordings that a list or a table names, below the folder that holds them all."""
    rows = list(_lines(path) if path.suffix.lower() == LIST else _rows(path, columns))
    audio = [row.audio for row in rows if isinstance(row, Row)]
    if not audio:
        faults = [f"{row.where}: {row.reason}" for row in rows if isinstance(row, Fault)]
        raise UserError([*faults, f"{path}: found no path of a recording, wanted one a line"][0])
    folders = {os.path.dirname(os.path.abspath(segments.parse(name).file)) for name in audio}
    base = os.path.commonpath(folders)
    for row in rows:
        if isinstance(row, Fault):
            yield row
        else:
            file = row.audio.removeprefix(f".{os.sep}")
            named = segments.with_times(file, row.start, row.end)
            yield _file(named, os.path.relpath(os.path.abspath(file), base))


def _lines(path: Path) -> Iterator[Row]:
    """Yield the recordings of a list; paths are relative to it, or to the working directory.

    Raises
    ------
    UserError
        If the first line is no path: it is a text, maybe what was said in a recording.
    """
    for number, (where, line) in enumerate(tables.lines(path)):
        part = segments.parse(line)
        file = locate(part.file, path.parent, Path())
        if not (number or is_audio(Path(file)) or os.path.isfile(file)):
            raise UserError(f"{where}: found {line[:60]!r}, wanted the path of a recording")
        yield Row(file, None, None, part.start, part.end if part.end < float("inf") else None)


def _rows(path: Path, columns: Columns) -> Iterator[Row | Fault]:
    return tables.rows(path, columns, *any_table.folders(path), parts=PARTS)


def total_seconds(found: Iterable[Source]) -> float | None:
    """Return how much audio the recordings' headers promise; None if one of them does not say."""
    lengths = [_seconds(source) for source in found]
    known = [seconds for seconds in lengths if seconds is not None]
    return sum(known) if len(known) == len(lengths) else None


def _seconds(source: Source) -> float | None:
    if not isinstance(source.audio, str):
        return None
    part = segments.parse(source.audio)
    try:
        header = soundfile.info(os.fsencode(part.file))
    except (soundfile.LibsndfileError, OSError):
        return None if os.path.isfile(part.file) else 0.0
    if header.frames >= sound.UNKNOWN:
        return None
    return max(0.0, min(part.end, float(header.duration)) - part.start)


def output_names(found: Iterable[Source]) -> list[PurePath]:
    """Return a path without a format's suffix for each recording's output, no two of them alike.

    It is the recording's place in what named it, without its suffix. Where two are alike, they
    get their place below the folder that all recordings share, then their suffix, then a number.
    Capital letters do not make a difference, as on many disks.
    """
    every = list(found)
    paths = [PurePath(source.path) for source in every if source.path]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""

    def place(source: Source) -> PurePath:
        if not source.path:
            return source.inside
        folder = os.path.dirname(segments.parse(source.path).file)
        return PurePath(os.path.relpath(folder, shared), source.inside.name)

    forms: list[Callable[[Source], PurePath]] = [
        lambda source: _without_suffix(source.inside),
        lambda source: _without_suffix(place(source)),
        place,
    ]
    names: dict[int, PurePath] = {}
    for form in forms:
        proposed = {n: form(source) for n, source in enumerate(every) if n not in names}
        counts = Counter(map(_key, [*names.values(), *proposed.values()]))
        names |= {n: name for n, name in proposed.items() if counts[_key(name)] == 1}
    taken = set(map(_key, names.values()))
    for n, source in enumerate(every):
        number = 1
        while n not in names:
            name = place(source).with_name(f"{place(source).name}-{number}")
            if _key(name) not in taken:
                names[n] = name
                taken.add(_key(name))
            number += 1
    return [names[n] for n in range(len(every))]


def _without_suffix(path: PurePath) -> PurePath:
    return path.with_suffix("") if is_audio(Path(path)) else path


def _key(name: PurePath) -> str:
    return str(name).casefold()
