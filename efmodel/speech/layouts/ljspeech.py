"""LJ Speech and its many relatives: ``metadata.csv`` with ``id|text|text`` lines, and ``wavs/``."""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns, missing
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines


def halves(folder: Path) -> Halves:
    """Return the table if it has bars, no header, and the folder of its recordings beside it."""
    table = folder / "metadata.csv"
    if not table.is_file() or not (folder / "wavs").is_dir():
        return {}
    with table.open(encoding="utf-8", errors="replace") as file:
        fields = file.readline().strip().split("|")
    return {"train": [table]} if len(fields) > 1 and missing(fields, {}) else {}


def rows(table: Path, columns: Columns) -> Rows:
    """Yield the recordings; of several texts the last one, whose numbers are words."""
    for where, line in lines(table):
        name, *texts = line.split("|")
        if not texts:
            yield Fault(where, f"found {line[:40]!r}, wanted a name, a bar and a text")
            continue
        text = next(filter(None, reversed(texts)), "")
        yield Row(locate(name, table.parent / "wavs", table.parent), text, None)


LAYOUT = Layout("LJ Speech", "metadata.csv with bars and no header, and wavs/", halves, rows)
