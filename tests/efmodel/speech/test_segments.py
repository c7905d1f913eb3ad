"""Parts of a recording: their times in a path, and the samples between them."""

import math

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from efmodel.speech import audio
from efmodel.speech.segments import Segment, parse, with_times

times = st.floats(0, 1e5, allow_nan=False).map(lambda x: round(x, 3))


@given(times, times)
def test_times_come_back_as_they_were_written(start, length):
    assert parse(with_times("a#b.wav", start, start + length)) == (
        "a#b.wav", start, pytest.approx(start + length),
    )  # fmt: skip


def test_a_file_without_times_is_whole(tmp_path):
    assert with_times("a.wav") == "a.wav" and parse("a.wav").whole
    assert parse(with_times("a.wav", 2.5)) == Segment("a.wav", 2.5, math.inf)
    odd = tmp_path / "a#t=1,2"  # a file may have such a name
    odd.touch()
    assert parse(str(odd)) == Segment(str(odd))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "sph"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_part_of_any_format(tmp_path, suffix, rate):
    path = tmp_path / f"long.{suffix}"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * rate).astype("float32")
    soundfile.write(path, samples, rate, format="NIST" if suffix == "sph" else None)
    whole = audio.decode(path).samples
    part = audio.decode(with_times(str(path), 1.25, 4.5))
    assert part.seconds == pytest.approx(3.25, abs=1e-3) and part.remark == ""
    expected = whole[20_000:72_000][2_000:50_000].numpy()
    found = part.samples[2_000:50_000].numpy()
    assert np.corrcoef(expected, found)[0, 1] > 0.99  # the filter's ends apart
    assert audio.info(with_times(str(path), 1.25, 4.5)).seconds == pytest.approx(3.25, abs=1e-3)
    rest = audio.decode(with_times(str(path), 4.0)).seconds
    assert rest == pytest.approx(len(whole) / 16_000 - 4.0, abs=1e-3)


def test_times_that_the_file_does_not_have_are_named(tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.full(32_000, 0.1, "float32"), 16_000)
    late = audio.decode(with_times(path, 1.0, 5.0))
    assert late.remark == "found 1.00 s of audio, its times say 4.00 s"
    assert audio.info(with_times(path, 1.0, 5.0)).seconds == 1.0
    for read in (audio.decode, audio.info):
        with pytest.raises(audio.AudioError, match="found no samples, wanted audio"):
            read(with_times(path, 3.0, 5.0))
