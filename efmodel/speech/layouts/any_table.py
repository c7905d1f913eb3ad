"""Tables of any name: CSV, TSV or JSON whose columns have usual names, or are named in the run."""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Halves, Layout, Rows
from efmodel.speech.layouts.tables import has_records
from efmodel.speech.layouts.tables import rows as table_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
CLIPS = ("clips", "wavs", "wav", "audio", "audios", "recordings", "data")


def halves(folder: Path) -> Halves:
    """Return the tables of the folder, or else those of its subfolders."""
    return by_half(_tables(folder, "*") or _tables(folder, "*/*"), folder)


def _tables(folder: Path, form: str) -> list[Path]:
    files = [file for file in folder.glob(form) if file.suffix.lower() in SUFFIXES]
    return [file for file in files if file.is_file() and has_records(file)]


def rows(table: Path, columns: Columns) -> Rows:
    """Yield the rows."""
    return table_rows(table, columns, *folders(table))


def folders(table: Path) -> tuple[Path, ...]:
    """Return where audio files may lie: beside the table, in a folder of a usual name, or above."""
    folder = table.parent
    return folder, *(folder / name for name in CLIPS), folder.parent


LAYOUT = Layout("a table", "a .csv, .tsv, .jsonl or .json file with a header", halves, rows)
