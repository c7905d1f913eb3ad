"""Our own layout: ``metadata.jsonl``, ``.csv`` or ``.tsv`` beside the audio files."""

from pathlib import Path

from efmodel.speech.layouts.layout import Halves, Layout
from efmodel.speech.layouts.tables import rows

FILES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")


def halves(folder: Path) -> Halves:
    """Return the metadata of ``train/`` and ``test/``, or that of the folder itself."""
    found = {half: _metadata(folder / half) for half in ("train", "test")}
    if any(found.values()):
        return {half: files for half, files in found.items() if files}
    alone = _metadata(folder)
    return {"train": alone} if alone else {}


def _metadata(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()][:1]


LAYOUT = Layout("EF-ASR", "metadata.jsonl, .csv or .tsv, here or in train/ and test/", halves, rows)
