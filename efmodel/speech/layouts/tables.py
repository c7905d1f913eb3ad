"""Tables of recordings: CSV with any separator, TSV, and JSON with one object a line."""

import csv
import gzip
import io
import json
import math
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from efmodel.errors import DataError
from efmodel.speech.layouts.columns import Columns, find, missing
from efmodel.speech.layouts.layout import Fault, Row, Rows
from efmodel.speech.layouts.paths import locate

SEPARATORS = ",;\t|"
Record = tuple[str, Any]  # where it stands, and its value: {column: field}, or what else it is


def rows(path: Path, columns: Columns, *folders: Path, quotes: bool = True) -> Rows:
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

    Raises
    ------
    DataError
        If the table cannot be read or lacks a column.
    """
    names, records = _read(path, quotes)
    if (names or records) and (fault := missing(names, columns)):
        values = [value for _, value in records if isinstance(value, dict)]
        if values or not records:
            raise DataError(f"{path}, line 1: {fault}")
    found = find(names, columns)
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
    with _open(path) as file:
        return bool(first_object(path)) or file.read(100).lstrip().startswith(b"[")


def read_text(path: Path) -> io.StringIO:
    """Return a file's text without the byte order mark that spreadsheets write.

    Raises
    ------
    DataError
        If it is neither UTF-8 nor UTF-16 with its mark.
    """
    try:
        with _open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: found no readable file ({error}), wanted text") from error
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return io.StringIO(data.decode("utf-16", errors="replace"), newline="")
    data = data.removeprefix(BOM_UTF8)
    try:
        return io.StringIO(data.decode("utf-8"), newline="")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: found the byte {data[error.start]:#04x}, wanted UTF-8: save the "
            "file in this encoding"
        ) from error


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text that are not empty, and where each one stands."""
    for number, line in enumerate(read_text(path), start=1):
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


def _read(path: Path, quotes: bool) -> tuple[list[str], list[Record]]:
    """Return the names of a table's columns, and its records."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return _csv(path, quotes)
    if path.suffix == ".json" and (values := _json_list(path)) is not None:
        records: list[Record] = [(f"{path}, item {n}", v) for n, v in enumerate(values, start=1)]
    else:
        records = list(objects(path))
    names = dict.fromkeys(key for _, value in records if isinstance(value, dict) for key in value)
    return list(names), records


def _json_list(path: Path) -> list[Any] | None:
    """Return the values of a file that is one JSON list; None if it is something else."""
    try:
        value = json.loads(read_text(path).getvalue())
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, list) else None


def _csv(path: Path, quotes: bool) -> tuple[list[str], list[Record]]:
    text = read_text(path)
    header = text.readline()
    text.seek(0)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=header.count)
    reader = csv.DictReader(
        text,
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    records: list[Record] = []
    line = 1
    try:
        names = [name for name in reader.fieldnames or [] if name]
        while True:
            line = reader.line_num + 1
            records.append((f"{path}, line {line}", next(reader)))
    except StopIteration:
        return names, records
    except csv.Error as error:
        # The rows that follow an open quote are part of its text: none of them can be trusted.
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
    empty += [found["text"]] if found["text"] not in record else []
    empty += [found["speaker"]] if "speaker" in found and speaker in (None, "") else []
    if empty:
        wanted = ", ".join(found[part] for part in ("audio", "text", "speaker") if part in found)
        return Fault(where, f"found no {' and no '.join(empty)}, wanted {wanted}")
    try:
        start, end = _times(record, found)
    except ValueError as error:
        return Fault(where, str(error))
    text = record[found["text"]]
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
    if start < 0 or (end is not None and end <= start):
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
