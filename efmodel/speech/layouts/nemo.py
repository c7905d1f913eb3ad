"""Manifests of NeMo: JSON lines with ``audio_filepath``, ``text``, ``duration`` and ``offset``."""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Halves, Layout, Rows
from efmodel.speech.layouts.tables import first_object
from efmodel.speech.layouts.tables import rows as table_rows


def halves(folder: Path) -> Halves:
    """Return the manifests of the folder, and those in its ``manifests/``."""
    forms = ("*.json", "*.jsonl", "manifests/*.json", "manifests/*.jsonl")
    files = [file for form in forms for file in folder.glob(form)]
    return by_half([file for file in files if "audio_filepath" in first_object(file)], folder)


def rows(manifest: Path, columns: Columns) -> Rows:
    """Yield the rows; audio files are relative to the manifest, or to a folder above it."""
    return table_rows(manifest, columns, manifest.parent, manifest.parent.parent)


LAYOUT = Layout("NeMo", "*.json with audio_filepath in each line", halves, rows)
