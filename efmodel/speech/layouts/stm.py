"""Segment time marks: ``talk.stm`` says who says what when in ``talk.sph``, as in TED-LIUM.

A line has talk, channel, speaker, start, end, ``<label>`` (may be missing) and text; the format is
that of NIST's scoring toolkit, and TED-LIUM's README describes its folders: ``legacy/train/stm``
beside ``legacy/train/sph`` in release 3, ``train/stm`` beside ``train/sph`` before.
"""

import re
from pathlib import Path

from efmodel.speech.corpus_spelling import join_clitics
from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import lines

NOT_SPEECH = ("ignore_time_segment_in_scoring", "inter_segment_gap")
LABEL = re.compile(r"<(?:[^>]*,[^>]*|F\d_[MF])>\s*")  # <o,f0,male>, <F0_M>; <unk> is none
# Release 1 marks noise {NOISE}, the second pronunciation of a word (2), and ends a line with the
# utterance's name in round brackets.
MARKS = re.compile(r"\{[^}]*\}|\(\d+\)|\([^()\s]*\)\s*$")


def halves(folder: Path) -> Halves:
    """Return the files with time marks of the folders that are named train and test."""
    return by_half(folder.rglob("*.stm"), folder)


def rows(marks: Path, columns: Columns) -> Rows:
    """Yield the segments that are speech."""
    for where, line in lines(marks):
        fields = line.split(maxsplit=5)
        if line.startswith(";;"):
            continue
        if len(fields) < 6:
            yield Fault(where, "found fewer than 6 fields, wanted talk, channel, speaker, times")
            continue
        talk, _, speaker, start, end, text = fields
        label = LABEL.match(text)
        text = MARKS.sub(" ", text[label.end() :] if label else text)
        text = " ".join(join_clitics(text).split())
        if text.lower() in NOT_SPEECH or speaker in NOT_SPEECH:
            yield Fault(where, f"found {text}, wanted speech", "no speech")
            continue
        try:
            times = float(start), float(end)
        except ValueError:
            yield Fault(where, f"found the times {start!r} and {end!r}, wanted seconds")
            continue
        folders = (marks.parent, marks.parent.parent / "sph", marks.parent.parent / "wav")
        yield Row(locate(talk, *folders), text, speaker, *times)


LAYOUT = Layout("TED-LIUM", "*.stm beside *.sph, or in stm/ and sph/", halves, rows)
