"""FLEURS as its repository holds it: ``train.tsv``, and ``audio/train`` out of its archive.

The tables have no header: id, file name, raw text, text, letters, samples, gender. They do not say
who speaks. The fields are those of the loading script in google/fleurs.
"""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines

FIELDS = 7


def halves(folder: Path) -> Halves:
    """Return the tables whose first line has the fields of FLEURS."""
    if not (folder / "audio").is_dir():
        return {}
    tables = {half: folder / f"{half}.tsv" for half in ("train", "test")}
    return {half: [table] for half, table in tables.items() if _is_fleurs(table)}


def _is_fleurs(table: Path) -> bool:
    if not table.is_file():
        return False
    with table.open(encoding="utf-8", errors="replace") as file:
        fields = file.readline().split("\t")
    return len(fields) == FIELDS and fields[0].isdecimal() and fields[5].isdecimal()


def rows(table: Path, columns: Columns) -> Rows:
    """Yield the utterances of a table."""
    audio = table.parent / "audio"
    for where, line in lines(table):
        fields = line.split("\t")
        if len(fields) != FIELDS:
            yield Fault(where, f"found {len(fields)} fields, wanted {FIELDS}")
            continue
        path = locate(fields[1], audio / table.stem, audio)
        yield Row(path, fields[3], None, language=table.parent.name)


LAYOUT = Layout("FLEURS", "train.tsv without header, and audio/train/", halves, rows)
