"""Recordings as the project holds them, and the local folders they are read from.

One format inside: a ``datasets.Dataset`` with ``audio`` (undecoded ``bytes`` or a ``path``),
``text`` and ``speaker``.
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
    """Data that is missing or not in the form it should have."""


@dataclass(frozen=True)
class Corpus:
    """Recordings to train on, and others to test on, which may be none."""

    train: Dataset
    test: Dataset | None
    left_out: Counter[str] = field(default_factory=Counter)  # rows of no use, by half and reason


@dataclass(frozen=True)
class Limits:
    """How much of a corpus is read: ``max_speakers`` to train on, the first ones; 0 for all.

    ``streaming`` reads rows one by one, and no further than that many speakers with
    ``max_utterances`` each. ``tune_speakers`` of those to train on are tested on instead, and
    the corpus's own test half stays unseen.
    """

    streaming: bool = False
    max_speakers: int = 0
    max_utterances: int = 0
    tune_speakers: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return what the run config asks for."""
        return cls(
            settings.data_streaming,
            settings.max_speakers,
            settings.max_utterances,
            settings.tune_speakers,
        )


def audiofolder(folder: Path) -> Corpus:
    """Read a local folder: ``train/``, ``test/`` or both, or just recordings to train on.

    Each of them holds ``metadata.jsonl`` or ``metadata.csv`` with ``file_name``, ``text`` and
    ``speaker``, beside the audio files.

    Raises
    ------
    DataError
        Naming the folder, file, line or column, what was found and what was wanted.
    """
    if not folder.is_dir():
        raise DataError(f"data-path: found no folder {folder}")
    train, test = folder / "train", folder / "test"
    if not (train.is_dir() or test.is_dir()):
        return Corpus(_read_folder(folder), None)
    # A server may have speech to test on alone.
    nothing = Dataset.from_dict({column: [] for column in FEATURES}, features=FEATURES)
    return Corpus(
        _read_folder(train) if train.is_dir() else nothing,
        _read_folder(test) if test.is_dir() else None,
    )


def _read_folder(folder: Path) -> Dataset:
    for name, rows in (("metadata.jsonl", _jsonl_rows), ("metadata.csv", _csv_rows)):
        if (folder / name).is_file():
            table = [_row(folder, name, line, row) for line, row in rows(folder / name)]
            if not table:
                raise DataError(f"{folder / name}: found no rows")
            return Dataset.from_list(table, features=FEATURES)
    raise DataError(
        f"{folder}: found neither metadata.jsonl nor metadata.csv, nor train/ or test/ with one"
    )


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: found no JSON ({error})") from error
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
                f"wanted {', '.join(COLUMNS)}: {column} is missing"
            )
    return {
        "audio": {"bytes": None, "path": str(folder / str(row["file_name"]))},
        "text": str(row["text"]),
        "speaker": str(row["speaker"]),
    }


def speakers(dataset: Dataset) -> list[str]:
    """Return the speakers of a data set, sorted."""
    return sorted(set(dataset["speaker"]))
