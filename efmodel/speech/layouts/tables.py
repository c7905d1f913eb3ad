"""Tables of recordings: CSV with any separator, TSV, and JSON with one object a line."""

import csv
import gzip
import io
import json
import math
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from efmodel.errors import DataError
from efmodel.speech.layouts.columns import NAMES, Columns, find, missing
from efmodel.speech.layouts.layout import Fault, Row, Rows
from efmodel.speech.layouts.paths import locate

SEPARATORS = ",;\t|"
Record = tuple[str, Any]  # where it stands, and its value: {column: field}, or what else it is


def rows(
    path: Path,
    columns: Columns,
    *folders: Path,
    quotes: bool = True,
    parts: Container[str] = NAMES,
) -> Rows:
    """Yield the rows of a table.

    Parameters
    ----------
    path : Path
        A file whose first line, or whose objects, name the columns.
    columns : Columns
        The columns that the run config names.
    folders : Path
        Folders to which the audio files are relative; the table's own by default.
    quotes : bool
        Whether quotes around a CSV's field are no part of it.
    parts : Container[str]
        The parts of a row to read. Without "text" among them a table needs no texts.

    Raises
    ------
    DataError
        If the table cannot be read or lacks a column.
    """
    names, records = _csv(path, quotes) if _is_csv(path) else _json(path)
    if names and (fault := missing(names, columns, parts)):
        raise DataError(f"{path}, line 1: {fault}")
    found = {part: name for part, name in find(names, columns).items() if part in parts}
    for where, record in records:
        yield _row(where, record, found, folders or (path.parent,))


def first_object(path: Path) -> dict[str, Any]:
    """Return the first object of a file with JSON lines; empty if there is none."""
    try:
        with _open(path) as file:
            value = json.loads(file.readline())
    except (OSError, EOFError, zlib.error, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def has_records(path: Path) -> bool:
    """Return whether a file may be a table: JSON needs a list, or an object in the first line."""
    if not path.suffix.lower().startswith(".json"):
        return True
    return bool(first_object(path)) or _starts_a_list(path)


def raw_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text with their ends, without the mark that spreadsheets write.

    Raises
    ------
    DataError
        If it is neither UTF-8 nor UTF-16 with its mark.
    """
    try:
        with _open(path) as file:
            wide = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
        with _open(path) as file:
            encoding = "utf-16" if wide else "utf-8-sig"
            yield from io.TextIOWrapper(file, encoding, newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}{_undecodable(path)}: save the file in this encoding") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: found no readable file ({error}), wanted text") from error


def _undecodable(path: Path) -> str:
    """Return the first line that is not UTF-8, and what was found in it."""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f", line {number}: found the byte {line[error.start]:#04x}, wanted UTF-8"
    return ": found bytes that are no text, wanted UTF-8"


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text that are not empty, and where each one stands."""
    for number, line in enumerate(raw_lines(path), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def objects(path: Path) -> Iterator[Record]:
    """Yield the values of a file with JSON lines; of a line that is no JSON, its error."""
    for where, line in lines(path):
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            yield where, error


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def _json(path: Path) -> tuple[list[str], Iterator[Record]]:
    """Return the names of the columns of a JSON file, and its records; it is read twice."""
    names = {key: None for _, value in _values(path) if isinstance(value, dict) for key in value}
    return list(names), _values(path)


def _values(path: Path) -> Iterator[Record]:
    """Yield the values of a file with JSON lines, or of one that is a JSON list."""
    if path.suffix.lower() == ".json" and _starts_a_list(path):
        with suppress(json.JSONDecodeError):
            for number, value in enumerate(json.loads("".join(raw_lines(path))), start=1):
                yield f"{path}, item {number}", value
            return
    yield from objects(path)


def _starts_a_list(path: Path) -> bool:
    with _open(path) as file:
        return bool(file.read(100).lstrip().startswith(b"["))


def _csv(path: Path, quotes: bool) -> tuple[list[str], Iterator[Record]]:
    """Return the names of the columns of a CSV or TSV file, and its records."""
    header = next(raw_lines(path), "")
    reader = csv.DictReader(
        raw_lines(path),
        delimiter="\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=header.count),
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    with _quotes_named(path, 1):
        names = [name for name in reader.fieldnames or [] if name]
    return names, _csv_records(path, reader)


def _csv_records(path: Path, reader: "csv.DictReader[str]") -> Iterator[Record]:
    while True:
        line = reader.line_num + 1
        with _quotes_named(path, line):
            record = next(reader, None)
        if record is None:
            return
        yield f"{path}, line {line}", record


@contextmanager
def _quotes_named(path: Path, line: int) -> Iterator[None]:
    """Name the line in which a quote opens that does not close.

    The rows that follow it are part of its text: none of them can be trusted.
    """
    try:
        yield
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: found a quote that does not close at the end of its field "
            f"({error}), wanted quotes around whole fields, and quotes inside them doubled"
        ) from error


def _row(where: str, record: Any, found: Columns, folders: tuple[Path, ...]) -> Row | Fault:
    if isinstance(record, json.JSONDecodeError):
        return Fault(where, f"found no JSON ({record}), wanted an object")
    if not isinstance(record, dict):
        return Fault(where, f"found {record!r}, wanted an object")
    if any(record.get(None) or []):  # csv's key for further fields
        fields = len(record) - 1 + len(record[None])
        return Fault(where, f"found {fields} fields, wanted quotes around the separators in a text")
    audio = record.get(found["audio"])
    if isinstance(audio, dict):  # as in tables of the datasets library
        audio = audio.get("path")
    speaker = record.get(found["speaker"]) if "speaker" in found else None
    empty = [found["audio"]] if audio in (None, "") else []
    empty += [found["text"]] if "text" in found and found["text"] not in record else []
    empty += [found["speaker"]] if "speaker" in found and speaker in (None, "") else []
    if empty:
        wanted = ", ".join(found[part] for part in ("audio", "text", "speaker") if part in found)
        return Fault(where, f"found no {' and no '.join(empty)}, wanted {wanted}")
    try:
        start, end = _times(record, found)
    except ValueError as error:
        return Fault(where, str(error))
    text = record[found["text"]] if "text" in found else None
    return Row(
        locate(str(audio), *folders),
        None if text is None else str(text),
        None if speaker is None else str(speaker),
        start,
        end,
        language=str(record.get(found.get("language", "")) or ""),
        half=str(record.get(found.get("split", "")) or "").strip().lower(),
    )


def _times(record: dict[str, Any], found: Columns) -> tuple[float, float | None]:
    """Return the seconds where an utterance starts and ends in its file.

    Raises
    ------
    ValueError
        If these are no times.
    """
    start = _seconds(record, found, "start")
    end = _seconds(record, found, "end")
    duration = _seconds(record, found, "duration")
    if start is None and end is None:
        return 0.0, None  # a duration alone is that of the file
    start = start or 0.0
    if end is None and duration is not None:
        end = start + duration
    if end is not None and end <= start:
        raise ValueError(f"found start {start:g} and end {end:g}, wanted an end after the start")
    return start, end


def _seconds(record: dict[str, Any], found: Columns, part: str) -> float | None:
    value = record.get(found.get(part, ""))
    if value in (None, ""):
        return None
    seconds = math.nan
    with suppress(ValueError):
        seconds = float(str(value).replace(",", "."))
    if not math.isfinite(seconds):
        raise ValueError(f"found {found[part]} {value!r}, wanted seconds")
    return seconds
