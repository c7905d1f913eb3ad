"""The format of a corpus, and local folders in it.

A corpus consists of ``datasets.Dataset`` with the columns ``audio`` (undecoded ``bytes`` or a
``path``), ``text`` and ``speaker``.
"""

import csv
import io
import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from efmodel.errors import UserError
from efmodel.settings import Settings

FEATURES = Features(
    {
        "audio": {"bytes": Value("binary"), "path": Value("string")},
        "text": Value("string"),
        "speaker": Value("string"),
    }
)
COLUMNS = ("file_name", "text", "speaker")


class DataError(UserError):
    """Data that is missing or malformed."""


@dataclass(frozen=True)
class Corpus:
    """Recordings to train on and recordings to test on.

    Attributes
    ----------
    train : Dataset
        May be empty.
    test : Dataset, optional
        None if the corpus has no test half.
    left_out : Counter
        Number of unusable rows by half and reason.
    faults : list of str
        Of a folder's unusable rows: file, line, what was found and what was wanted.
    """

    train: Dataset
    test: Dataset | None
    left_out: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """The part of a corpus that is read.

    Attributes
    ----------
    streaming : bool
        Whether rows are read one by one, until ``max_speakers`` speakers have ``max_utterances``
        each.
    max_speakers : int
        Number of training speakers, the first ones of the corpus; 0 for all.
    max_utterances : int
        Utterances per speaker when streaming.
    tune_speakers : int
        Number of training speakers to test on in place of the corpus's test half, which is not
        used; 0 to use it.
    """

    streaming: bool = False
    max_speakers: int = 0
    max_utterances: int = 0
    tune_speakers: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits in a run config."""
        return cls(
            settings.data_streaming,
            settings.max_speakers,
            settings.max_utterances,
            settings.tune_speakers,
        )


def audiofolder(folder: Path) -> Corpus:
    """Read a local folder with ``train/``, ``test/`` or both, or with training recordings only.

    Each of these folders holds audio files and ``metadata.jsonl`` or ``metadata.csv`` with the
    columns ``file_name``, ``text`` and ``speaker``. Rows that cannot be used are left out.

    Raises
    ------
    DataError
        If the folder is missing or malformed, or has no usable row; the message gives the file,
        line and column.
    """
    if not folder.is_dir():
        raise DataError(f"data-path: found no folder {folder}, wanted one with recordings")
    halves = {half: folder / half for half in ("train", "test") if (folder / half).is_dir()}
    read = {half: _read_folder(path) for half, path in (halves or {"train": folder}).items()}
    # A server may have test recordings only.
    empty = Dataset.from_dict({column: [] for column in FEATURES}, features=FEATURES)
    train, _ = read.get("train", (empty, []))
    test, _ = read.get("test", (None, []))
    left_out = {
        f"{half}: unusable row": len(faults) for half, (_, faults) in read.items() if faults
    }
    return Corpus(
        train, test, Counter(left_out), [f for _, faults in read.values() for f in faults]
    )


def _read_folder(folder: Path) -> tuple[Dataset, list[str]]:
    """Return the usable rows, and what is wrong with the others."""
    for name, rows in (("metadata.jsonl", _jsonl_rows), ("metadata.csv", _csv_rows)):
        if (folder / name).is_file():
            return _usable(folder, folder / name, rows(folder / name))
    raise DataError(
        f"{folder}: found neither metadata.jsonl nor metadata.csv, wanted one of them here, or in "
        "train/ or test/"
    )


def _usable(folder: Path, file: Path, rows: Iterable[tuple[int, Any]]) -> tuple[Dataset, list[str]]:
    table: list[dict[str, Any]] = []
    faults: list[str] = []
    for line, row in rows:
        if fault := _fault(row):
            faults.append(f"{file}, line {line}: {fault}")
            continue
        text = row["text"]
        table.append(
            {
                "audio": {"bytes": None, "path": str(folder / str(row["file_name"]))},
                "text": None if text is None else str(text),
                "speaker": str(row["speaker"]),
            }
        )
    if not table:
        raise DataError(faults[0] if faults else f"{file}: found no rows, wanted one per recording")
    return Dataset.from_list(table, features=FEATURES), faults


def _read_text(path: Path) -> io.StringIO:
    """Return a file's text without the byte order mark that spreadsheets write."""
    data = path.read_bytes().removeprefix(BOM_UTF8)
    try:
        return io.StringIO(data.decode("utf-8"), newline="")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: found the byte {data[error.start]:#04x}, wanted UTF-8: save the "
            "file in this encoding"
        ) from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers and values; a line that is no JSON has its error as its value."""
    for number, line in enumerate(_read_text(path), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield rows by column, and the numbers of the lines in which they start."""
    reader = csv.DictReader(_read_text(path), strict=True)
    line = 1
    try:
        columns = list(reader.fieldnames or [])
        if fault := _missing(columns):  # in every row
            raise DataError(f"{path}, line 1: {fault}")
        while True:
            line = reader.line_num + 1
            yield line, next(reader)
    except StopIteration:
        return
    except csv.Error as error:
        # The rows that follow an open quote are part of its text: none of them can be trusted.
        raise DataError(
            f"{path}, line {line}: found a quote that does not close at the end of its field "
            f"({error}), wanted quotes around whole fields, and quotes inside them doubled"
        ) from error


def _missing(columns: Iterable[Any]) -> str:
    """Return which columns are missing, or an empty string."""
    found = sorted(str(column) for column in columns if column is not None)
    if missing := [column for column in COLUMNS if column not in found]:
        wanted = f"wanted {', '.join(COLUMNS)}; {', '.join(missing)} is missing"
        return f"found columns {', '.join(found)}, {wanted}"
    return ""


def _fault(row: Any) -> str:
    """Return why a row cannot be used, or an empty string. A text may be null: it has no words."""
    if isinstance(row, json.JSONDecodeError):
        return f"found no JSON ({row}), wanted an object"
    if not isinstance(row, dict):
        return f"found {row!r}, wanted an object"
    if fault := _missing(row):
        return fault
    if any(row.get(None) or []):  # csv's key for further fields
        return (
            f"found {len(row) - 1 + len(row[None])} fields, wanted quotes around commas in a text"
        )
    empty = [column for column in ("file_name", "speaker") if row[column] in (None, "")]
    return f"found no {' and no '.join(empty)}, wanted {', '.join(COLUMNS)}" if empty else ""


def speakers(dataset: Dataset) -> list[str]:
    """Return the names of a data set's speakers, sorted."""
    return sorted(set(dataset["speaker"]))
