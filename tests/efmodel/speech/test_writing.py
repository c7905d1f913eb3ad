"""A corpus that is written in our layout is read back with the same sound, texts and speakers."""

import shutil
from dataclasses import replace

import pytest
import soundfile
import torch

from efmodel.errors import DataError
from efmodel.speech import audio, corpus, recordings
from efmodel.speech.writing import write
from tests.conftest import tone
from tests.efmodel.speech.test_ffmpeg import made, needs_ffmpeg


def contents(dataset):
    return list(zip(dataset["speaker"][:], dataset["text"][:], strict=True))


def sounds(dataset):
    return [audio.decode(row["audio"]["bytes"] or row["audio"]["path"]).samples for row in dataset]


def check(before, after):
    assert contents(before) == contents(after)
    for one, other in zip(sounds(before), sounds(after), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@needs_ffmpeg
def test_files_parts_and_what_ffmpeg_reads(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    soundfile.write(folder / "a.b.wav", tone(1.0, 44_100), 44_100)
    shutil.copy(made(tmp_path, "m4a"), folder / "memo.m4a")
    rows = ["a.b.wav,,,eins,anna", "a.b.wav,0.25,0.75,zwei,anna", "memo.m4a,,,Grüße,ben"]
    rows += ["gone.wav,,,drei,ben"]
    header = "file_name,start,end,text,speaker"
    (folder / "metadata.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    before = recordings.audiofolder(folder)
    done = write(before, tmp_path / "out")
    assert done == {"copied": 1, "converted": 2, "left out": 1}
    after = recordings.audiofolder(tmp_path / "out")
    assert after.layout == "EF-ASR" and after.test is None
    check(before.train.select(range(3)), after.train)
    copied = after.train["audio"][0]["path"]
    with open(copied, "rb") as file:
        assert file.read() == (folder / "a.b.wav").read_bytes()


def test_a_corpus_of_bytes_with_both_halves(tmp_path):
    sample = corpus.load("sample", "")
    sample = replace(sample, train=sample.train.select(range(5)), test=sample.test.select([0, 1]))
    assert write(sample, tmp_path / "out") == {"copied": 7}
    after = recordings.audiofolder(tmp_path / "out")
    check(sample.train, after.train)
    check(sample.test, after.test)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="write: found files in .*, wanted a new or an empty"):
        write(corpus.load("sample", ""), tmp_path)
