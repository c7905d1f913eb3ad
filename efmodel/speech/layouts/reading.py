"""Recognise a folder's layout, and read its rows."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from efmodel.errors import DataError
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import half_of
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row
from efmodel.speech.layouts.table import ANY_NAMES, LAYOUTS

ONE_SPEAKER = "speaker"  # the name of whoever speaks where nothing says who does
NO_SPEAKER_COLUMN = (
    "found nothing that says who speaks: all is one speaker, and partition=iid shares it among "
    "several clients"
)
DEPTH = 3  # folders that are opened in search of a layout while each holds but one folder


@dataclass
class Contents:
    """The rows of a folder.

    Attributes
    ----------
    layout : Layout
        How they lie there.
    root : Path
        The folder of that layout: the one that was given, or one below it.
    rows : dict
        Usable rows by half: "train", "test", "dev", and others that the layout names.
    faults : dict
        By half, the rows that cannot be used.
    """

    layout: Layout
    root: Path
    rows: dict[str, list[Row]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def add(self, half: str, row: Row | Fault) -> None:
        """Add a row of a half, or of the half that the row itself names."""
        if isinstance(row, Row) and not _is_part(row.start, row.end):
            reason = f"found start {row.start:g} and end {row.end}, wanted an end after the start"
            row = Fault(row.audio, reason)
        if isinstance(row, Fault):
            self.faults.setdefault(half, []).append(row)
        else:
            named = half_of(row.half) or row.half or half
            self.rows.setdefault(named, []).append(row)

    def train_and_test(self) -> tuple[list[Row], list[Row] | None]:
        """Return the rows to train on, and those to test on: "dev" if nothing is named "test"."""
        test = self.rows.get("test") or self.rows.get("dev")
        return self.rows.get("train", []), test

    def languages(self) -> Counter[str]:
        """Return the number of rows by language, as the layout names it."""
        rows = (row for rows in self.rows.values() for row in rows)
        return Counter(row.language for row in rows if row.language)

    def notes(self) -> list[str]:
        """Return what a user should know of how the rows were read."""
        notes = []
        train, test = self.train_and_test()
        if any(row.speaker is None for row in [*train, *(test or [])]):
            notes.append(NO_SPEAKER_COLUMN)
        if test and "test" not in self.rows:
            notes.append("found no test half: tests on dev")
        used = {"train", "test"} if "test" in self.rows else {"train", "test", "dev"}
        for half, rows in self.rows.items():
            if half not in used:
                notes.append(f"{len(rows)} rows of {half} are not used")
        return notes


def read(folder: Path, columns: Columns, language: str = "") -> Contents:
    """Return the rows of a folder in any layout.

    Parameters
    ----------
    folder : Path
        The folder, or one that holds nothing but the folder of a layout.
    columns : Columns
        The columns that the run config names.
    language : str
        Name of the folder to open where there is one for each language.

    Raises
    ------
    DataError
        If the layout is none of those that are known, or nothing can be read.
    """
    layout, root, halves = recognise(folder, language)
    contents = Contents(layout, root)
    parts = [(half, part) for half, found in halves.items() for part in found]
    for half, part in parts:
        try:
            for row in layout.rows(part, columns):
                contents.add(half, row)
        except DataError as error:
            if len(halves[half]) == 1:  # one of many chapters may be broken, the only table not
                raise
            contents.add(half, Fault("", str(error)))
    if not any(contents.rows.values()):
        faults = [fault for found in contents.faults.values() for fault in found]
        raise DataError(
            describe(faults[0])
            if faults
            else f"{parts[0][1]}: found no rows, wanted one per recording"
        )
    return contents


def _is_part(start: float, end: float | None) -> bool:
    """Return whether the times are those of a part of a file, however long it is."""
    return 0 <= start < math.inf and (end is None or start < end < math.inf)


def describe(fault: Fault) -> str:
    """Return a fault as a message."""
    return f"{fault.where}: {fault.reason}" if fault.where else fault.reason


def recognise(folder: Path, language: str = "") -> tuple[Layout, Path, Halves]:
    """Return the layout of a folder, the folder in which it begins, and what to read of it.

    Raises
    ------
    DataError
        If the layout is none of those that are known.
    """
    roots = list(_roots(folder, language))
    if found := _first(LAYOUTS, roots):
        return found
    inside = sorted(path for path in roots[-1].iterdir() if path.is_dir())
    if each := [path.name for path in inside if _first(LAYOUTS, [path])]:
        raise DataError(
            f"{roots[-1]}: found recordings in each of {', '.join(each)}, wanted one of these "
            "folders (language=NAME opens the folder of that name)"
        )
    if found := _first(ANY_NAMES, roots):
        return found
    forms = "; ".join(f"{layout.name}: {layout.form}" for layout in (*LAYOUTS, *ANY_NAMES))
    raise DataError(f"{folder}: found no recordings with texts, wanted one of the layouts {forms}")


def _first(layouts: Iterable[Layout], roots: list[Path]) -> tuple[Layout, Path, Halves] | None:
    """Return the first layout that one of the folders has, the folder, and what to read."""
    for layout in layouts:
        for root in roots:
            if halves := layout.halves(root):
                return layout, root, halves
    return None


def _roots(folder: Path, language: str) -> Iterator[Path]:
    """Yield the folder, then the only one in it (or the language's), as archives unpack."""
    for _ in range(DEPTH):
        yield folder
        folders = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
        spoken = [path for path in folders if language and path.name == language]
        if len(folders) != 1 and not spoken:
            return
        folder = (spoken or folders)[0]
    yield folder
