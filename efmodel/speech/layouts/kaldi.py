"""Kaldi data folders: ``wav.scp``, ``text``, and ``utt2spk`` and ``segments`` if there are any.

An entry of ``wav.scp`` may be a command. None is ever run: whoever gives a folder away would run
programs on the machine of whoever reads it.
"""

from pathlib import Path

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines


def halves(folder: Path) -> Halves:
    """Return the data folders: this one, or those in it or in its ``data/``."""
    candidates = [folder, *folder.glob("*"), *(folder / "data").glob("*")]
    return by_half({path for path in candidates if _is_data(path)}, folder)


def _is_data(folder: Path) -> bool:
    return (folder / "wav.scp").is_file() and (folder / "text").is_file()


def rows(folder: Path, columns: Columns) -> Rows:
    """Yield the utterances of ``text``, in its order."""
    recordings = _table(folder / "wav.scp")
    segments = _table(folder / "segments")
    speakers = _table(folder / "utt2spk")
    for utterance, text in _table(folder / "text").items():
        where = f"{folder}, {utterance}"
        # A segment is of another recording; without one the utterance is a recording itself.
        recording, *times = segments.get(utterance, utterance).split() or [""]
        entry = recordings.get(recording, "")
        if reason := _no_file(entry) or _no_times(times):
            kind = "a command in place of a file" if entry.endswith("|") else "unusable row"
            yield Fault(where, reason, kind)
            continue
        if speakers and utterance not in speakers:
            yield Fault(where, "found no speaker in utt2spk, wanted one")
            continue
        start, end = (float(time) for time in times[:2]) if times else (0.0, -1.0)
        # Paths are relative to the recipe's folder, in which data/train lies.
        path = locate(entry, folder, folder.parent, folder.parent.parent)
        yield Row(path, text, speakers.get(utterance), start, None if end == -1 else end)


def _no_file(entry: str) -> str:
    """Return why an entry of ``wav.scp`` is no file, or an empty string."""
    if not entry:
        return "found no recording in wav.scp, wanted one"
    if entry.endswith("|") or entry.startswith("|"):
        return (
            f"found the command {entry[:60]!r} in wav.scp, wanted a file: commands are never run. "
            "Run it yourself, and name its output"
        )
    if ".ark:" in entry or entry == "-":
        return f"found {entry[:60]!r} in wav.scp, wanted an audio file"
    return ""


def _no_times(fields: list[str]) -> str:
    """Return why the fields of ``segments`` are no start and end, or an empty string."""
    if not fields:
        return ""
    try:
        start, end = map(float, fields[:2])
    except ValueError:
        return f"found the times {' '.join(fields)!r} in segments, wanted seconds"
    wrong = end <= start and end != -1  # -1 says: until the recording's end
    return f"found start {start:g} and end {end:g}, wanted an end after the start" if wrong else ""


def _table(path: Path) -> dict[str, str]:
    """Return a Kaldi table, whose lines have a key, a space, and a value; empty without file."""
    if not path.is_file():
        return {}
    pairs = [line.split(maxsplit=1) for _, line in lines(path)]
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


LAYOUT = Layout("Kaldi", "wav.scp and text", halves, rows)
