"""Multilingual LibriSpeech: ``train/transcripts.txt`` and ``train/audio/SPEAKER/BOOK/``."""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines

LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it",
    "polish": "pl", "portuguese": "pt", "spanish": "es",
}  # fmt: skip


def halves(folder: Path) -> Halves:
    """Return the transcripts of both halves."""
    found = {half: folder / half / "transcripts.txt" for half in ("train", "test")}
    return {
        half: [file]
        for half, file in found.items()
        if file.is_file() and (file.parent / "audio").is_dir()
    }


def rows(transcripts: Path, columns: Columns) -> Rows:
    """Yield the utterances: each line has SPEAKER_BOOK_NUMBER, a tab, and the text."""
    words = transcripts.parents[1].name.split("_")  # such as mls_german_opus
    language = next((code for name, code in LANGUAGES.items() if name in words), "")
    for where, line in lines(transcripts):
        name, tab, text = line.partition("\t")
        speaker, _, rest = name.partition("_")
        if not tab or not rest:
            yield Fault(where, f"found {line[:40]!r}, wanted SPEAKER_BOOK_NUMBER, a tab and a text")
            continue
        folder = transcripts.parent / "audio" / speaker / rest.partition("_")[0]
        yield Row(locate(name, folder), text, speaker, language=language)


LAYOUT = Layout("Multilingual LibriSpeech", "train/transcripts.txt and train/audio/", halves, rows)
