"""Whatever stands in a folder's files, it is read, or named as an error of the user's data."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efmodel.speech import recordings
from efmodel.speech.layouts.halves import half_of
from efmodel.speech.layouts.layout import Fault, Row
from efmodel.speech.layouts.reading import Contents
from efmodel.speech.layouts.table import LAYOUTS

# The files of each layout, beside which folders must exist for it to be recognised.
FILES = {
    "metadata.jsonl": (),
    "metadata.csv": (),
    "data.json": (),
    "train.tsv": ("clips",),
    "ss-corpus-ab.tsv": ("audios",),
    "train/transcripts.txt": ("train/audio",),
    "segments": (),
    "cuts.jsonl": (),
    "talk.stm": (),
    "19/198/19-198.trans.txt": (),
    "s-20080101-abc/etc/PROMPTS": (),
}
KALDI = {"wav.scp": "a a.wav\nb b.wav |\n", "text": "a one\nb two\nc\n"}
FRAGMENTS = [
    "a", "a.wav", "text", "path", "file_name", "1", "-1", "nan", "1e999", ",", ";", "\t", " ", "\n",
    "\r\n", '"', "|", "{", "}", "[", "]", "null", '{"file_name": "a.wav", "text": "one"}',
    '{"audio_filepath": "a.wav", "text": 3, "offset": []}', "\ufeff", "<o,f0,male>", "\x00",
    '{"supervisions": [{"start": 0}], "start": 0, "recording": {"sources": []}}', ";;", "talk 1 s",
]  # fmt: skip
contents = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(lambda parts: "".join(parts).encode()),
    st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(lambda parts: " ".join(parts).encode()),
)


@pytest.mark.parametrize("name", list(FILES))
@settings(max_examples=60, deadline=None)
@given(content=contents)
@example(b"a a.wav nan nan\nb a.wav 1 inf\nc a.wav -5 -1\n")
@example(b"a\nb b.wav 1\n")
@example(b"talk 1 s nan 2 hello\ntalk 1 s 3 inf hello\ntalk 1 s -2 2 hello\n")
def test_damaged_files_raise_nothing_but_data_errors(name, content):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        for other in FILES[name]:
            (Path(folder) / other).mkdir(parents=True)
        if name == "segments":
            for table, text in KALDI.items():
                (Path(folder) / table).write_text(text)
        try:
            found = recordings.audiofolder(Path(folder))
        except recordings.DataError as error:
            assert "found" in str(error)
        else:
            assert all(row["speaker"] and row["audio"]["path"] for row in found.train)


@pytest.mark.parametrize(
    ("start", "end"), [(math.nan, 1.0), (-1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (1.0, math.nan)]
)
def test_times_that_are_no_part_of_a_file_are_faults(start, end):
    found = Contents(LAYOUTS[0], Path("x"))
    found.add("train", Row("a.wav", "one", "x", start, end))
    assert not found.rows and isinstance(found.faults["train"][0], Fault)


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("train-clean-100", "train"), ("Train", "train"), ("test_manifest.json", "test"),
        ("dev-other", "dev"), ("validation.csv", "dev"), ("eval2000", "test"), ("retrained", ""),
        ("contest", ""), ("data", ""),
    ],
)  # fmt: skip
def test_names_of_halves(name, half):
    assert half_of(name) == half
