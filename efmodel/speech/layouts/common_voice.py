"""Common Voice as Mozilla gives it out: an extracted archive of one language.

Scripted speech has ``clips/`` with ``train.tsv``, ``test.tsv`` and others; spontaneous speech has
``audios/`` with one ``ss-corpus-LANGUAGE.tsv`` that says the half of each recording. Both are
described in the repository common-voice/cv-dataset (datasets/scripted-speech/README.md and
datasets/spontaneous-speech/README.md).
"""

from collections.abc import Iterator
from pathlib import Path

from efmodel.speech.corpus_spelling import unquote
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.tables import rows as table_rows


def halves(folder: Path) -> Halves:
    """Return the tables; without ``train.tsv`` all validated clips are to train on."""
    spontaneous = sorted(folder.glob("ss-corpus-*.tsv"))
    if spontaneous and (folder / "audios").is_dir():
        return {"train": spontaneous}
    if not (folder / "clips").is_dir():
        return {}
    found = {half: folder / f"{half}.tsv" for half in ("train", "test")}
    existing = {half: [file] for half, file in found.items() if file.is_file()}
    validated = folder / "validated.tsv"
    return existing or ({"train": [validated]} if validated.is_file() else {})


def rows(table: Path, columns: Columns) -> Rows:
    """Yield the clips of a table; its fields have no quotes around them."""
    folder = table.parent
    found = table_rows(table, columns, folder / "clips", folder / "audios", quotes=False)
    return _spelt(found)


def _spelt(found: Rows) -> Iterator[Row | Fault]:
    for row in found:
        if isinstance(row, Row) and row.text:
            row = row._replace(text=unquote(row.text))
        yield row


LAYOUT = Layout("Common Voice", "train.tsv, test.tsv and clips/", halves, rows)
