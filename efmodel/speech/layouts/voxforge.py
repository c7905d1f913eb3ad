"""VoxForge: one folder for each session, with ``etc/PROMPTS`` and ``wav/`` or ``flac/``."""

import re
from pathlib import Path

from efmodel.speech.corpus_spelling import lower
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines

PROMPTS = ("PROMPTS", "prompts-original", "prompts.txt")
SESSION = re.compile(r"-\d{8,10}.*")  # NAME-YYYYMMDD-abc


def halves(folder: Path) -> Halves:
    """Return the sessions below the folder; VoxForge itself names no halves."""
    found = {file.parents[1] for name in PROMPTS for file in folder.glob(f"**/etc/{name}")}
    return by_half(found, folder)


def rows(session: Path, columns: Columns) -> Rows:
    """Yield the prompts of a session: each line has the recording's name and the text."""
    prompts = next(file for name in PROMPTS if (file := session / "etc" / name).is_file())
    speaker = SESSION.sub("", session.name)
    if speaker.lower() in ("anonymous", "unknown", ""):
        speaker = session.name  # whoever gave no name is another person in each session
    for _, line in lines(prompts):
        name, _, text = line.partition(" ")
        stem = name.rpartition("/")[2]
        yield Row(locate(stem, session / "wav", session / "flac"), lower(text), speaker)


LAYOUT = Layout("VoxForge", "etc/PROMPTS beside wav/ or flac/", halves, rows)
