"""LibriSpeech: ``train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` beside FLAC files."""

from pathlib import Path

from efmodel.speech.corpus_spelling import lower
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines


def halves(folder: Path) -> Halves:
    """Return the transcripts, each chapter's, of the subsets that are named train and test."""
    return by_half(folder.rglob("*.trans.txt"), folder)


def rows(transcripts: Path, columns: Columns) -> Rows:
    """Yield the utterances of a chapter: each line has an utterance's name and its text."""
    for _, line in lines(transcripts):
        name, _, text = line.partition(" ")
        speaker = name.partition("-")[0]
        yield Row(locate(name, transcripts.parent), lower(text), speaker, language="en")


LAYOUT = Layout("LibriSpeech", "*.trans.txt beside the audio", halves, rows)
