"""Pairs of files: ``x.wav`` and ``x.txt`` side by side, in subfolders or not."""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import half_of
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import is_audio
from efmodel.speech.layouts.tables import raw_lines

TEXTS = (".normalized.txt", ".txt", ".lab", ".TXT")  # the first one is that of LibriTTS


def halves(folder: Path) -> Halves:
    """Return the subfolders that are named train and test (or else dev), or the folder itself."""
    subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _has(path)]
    named = [(half_of(path.name), path) for path in subfolders]
    found = {
        half: [path for name, path in named if name == half] for half in ("train", "test", "dev")
    }
    test = found["test"] or found["dev"]
    if found["train"] or found["test"]:
        return {half: paths for half, paths in (("train", found["train"]), ("test", test)) if paths}
    return {"train": [folder]} if _has(folder) else {}


def _has(folder: Path) -> bool:
    """Return whether there is a pair in a folder or below it."""
    return any(is_audio(path) and _text_of(path) for path in folder.rglob("*"))


def _text_of(audio: Path) -> Path | None:
    texts = (audio.with_name(audio.stem + suffix) for suffix in TEXTS)
    return next((text for text in texts if text.is_file()), None)


def rows(folder: Path, columns: Columns) -> Rows:
    """Yield the pairs. In subfolders, the first one's name is that of the speaker."""
    for audio in sorted(filter(is_audio, folder.rglob("*"))):
        text = _text_of(audio)
        if text is None:
            wanted = f"{audio.stem}.txt"
            yield Fault(str(audio), f"found no {wanted} beside it, wanted its text", "no text file")
            continue
        inside = audio.relative_to(folder).parts[:-1]
        words = " ".join("".join(raw_lines(text)).split())
        yield Row(str(audio), words, inside[0] if inside else None)


LAYOUT = Layout("pairs of files", "x.wav and x.txt, side by side", halves, rows)
