"""Where recordings come from: the shipped sample, a local folder, a plug-in's own source.

One format inside: a ``datasets.Dataset`` with ``audio`` (undecoded ``bytes`` or a ``path``),
``text`` and ``speaker``.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

FEATURES = Features(
    {
        "audio": {"bytes": Value("binary"), "path": Value("string")},
        "text": Value("string"),
        "speaker": Value("string"),
    }
)
COLUMNS = ("file_name", "text", "speaker")


class DataError(ValueError):
    """Data that is missing or not in the form it should have."""


@dataclass(frozen=True)
class Corpus:
    """Recordings to train on, and others to test on, which may be none."""

    train: Dataset
    test: Dataset | None


def audiofolder(folder: Path) -> Corpus:
    """Read a local folder: ``train/`` and perhaps ``test/``, or just recordings to train on.

    Each of them holds ``metadata.jsonl`` or ``metadata.csv`` with ``file_name``, ``text`` and
    ``speaker``, beside the audio files.

    Raises
    ------
    DataError
        Naming the folder, file, line or column, what was found and what was wanted.
    """
    if not folder.is_dir():
        raise DataError(f"data-path: found no folder {folder}")
    if (folder / "train").is_dir():
        test = folder / "test"
        return Corpus(_read_folder(folder / "train"), _read_folder(test) if test.is_dir() else None)
    return Corpus(_read_folder(folder), None)


def _read_folder(folder: Path) -> Dataset:
    for name, rows in (("metadata.jsonl", _jsonl_rows), ("metadata.csv", _csv_rows)):
        if (folder / name).is_file():
            table = [_row(folder, name, line, row) for line, row in rows(folder / name)]
            if not table:
                raise DataError(f"{folder / name}: found no rows")
            return Dataset.from_list(table, features=FEATURES)
    raise DataError(f"{folder}: found neither metadata.jsonl nor metadata.csv")


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


@lru_cache(maxsize=2)
def load(data: str, data_path: str) -> Corpus:
    """Return the corpus that the run config's ``data`` and ``data-path`` name.

    Raises
    ------
    DataError
        If there is no such source, or it is not in order.
    """
    if data == "audiofolder":
        if not data_path:
            raise DataError("data-path: found nothing, wanted a folder (data is audiofolder)")
        return audiofolder(Path(data_path).expanduser())
    sources = entry_points(group="ef_asr.corpora")
    if data not in sources.names:
        known = sorted({"audiofolder", *sources.names})
        raise DataError(f"data: found {data!r}, wanted one of {', '.join(known)}")
    corpus: Corpus = sources[data].load()()
    return corpus


def named(data: str) -> tuple[str, str]:
    """Return ``data`` and ``data-path`` for what a user calls data: a folder, or a name."""
    path = Path(data).expanduser()
    if path.is_dir() or "/" in data:
        return "audiofolder", str(path.resolve())
    return data, ""


def speakers(dataset: Dataset) -> list[str]:
    """Return the speakers of a data set, sorted."""
    return sorted(set(dataset["speaker"]))
