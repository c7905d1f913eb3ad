"""The format of a corpus, and local folders in it.

A corpus consists of ``datasets.Dataset`` with the columns ``audio`` (undecoded ``bytes`` or a
``path``), ``text`` and ``speaker``.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
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
    """

    train: Dataset
    test: Dataset | None
    left_out: Counter[str] = field(default_factory=Counter)


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
    columns ``file_name``, ``text`` and ``speaker``.

    Raises
    ------
    DataError
        If the folder is missing or malformed; the message gives the file, line and column.
    """
    if not folder.is_dir():
        raise DataError(f"data-path: found no folder {folder}, wanted one with recordings")
    train, test = folder / "train", folder / "test"
    if not (train.is_dir() or test.is_dir()):
        return Corpus(_read_folder(folder), None)
    # A server may have test recordings only.
    empty = Dataset.from_dict({column: [] for column in FEATURES}, features=FEATURES)
    return Corpus(
        _read_folder(train) if train.is_dir() else empty,
        _read_folder(test) if test.is_dir() else None,
    )


def _read_folder(folder: Path) -> Dataset:
    for name, rows in (("metadata.jsonl", _jsonl_rows), ("metadata.csv", _csv_rows)):
        if (folder / name).is_file():
            table = [_row(folder, name, line, row) for line, row in rows(folder / name)]
            if not table:
                raise DataError(f"{folder / name}: found no rows, wanted one per recording")
            return Dataset.from_list(table, features=FEATURES)
    raise DataError(
        f"{folder}: found neither metadata.jsonl nor metadata.csv, wanted one of them here, or in "
        "train/ or test/"
    )


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: found no JSON ({error}), wanted an object"
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: found {row!r}, wanted an object")
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from enumerate(csv.DictReader(file), start=2)


def _row(folder: Path, file: str, line: int, row: dict[str, Any]) -> dict[str, Any]:
    for column in COLUMNS:
        if row.get(column) is None:
            raise DataError(
                f"{folder / file}, line {line}: found columns {sorted(map(str, row))}, "
                f"wanted {', '.join(COLUMNS)}; {column} is missing"
            )
    return {
        "audio": {"bytes": None, "path": str(folder / str(row["file_name"]))},
        "text": str(row["text"]),
        "speaker": str(row["speaker"]),
    }


def speakers(dataset: Dataset) -> list[str]:
    """Return the names of a data set's speakers, sorted."""
    return sorted(set(dataset["speaker"]))
