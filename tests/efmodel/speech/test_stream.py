"""Recordings in chunks give the samples of the whole."""

import io
import logging

import numpy as np
import pytest
import soundfile

from efmodel.speech import audio, stream


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(0)
    return 0.1 * generator.standard_normal((int(seconds * rate), channels))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_chunks_are_the_whole_recording(tmp_path, monkeypatch, rate):
    monkeypatch.setattr(stream, "CHUNK", 2)
    for seconds in (1.0, 3.0, 4.0, 7.3):
        soundfile.write(tmp_path / "a.flac", noise(seconds, rate, 2), rate)
        whole = audio.load(tmp_path / "a.flac")
        chunks = list(stream.stream(tmp_path / "a.flac"))
        assert len(chunks) >= seconds // 3
        assert len(np.concatenate(chunks)) == len(whole)
        assert np.allclose(np.concatenate(chunks), whole, atol=1e-4)


def test_a_rate_without_a_short_filter_is_close(tmp_path, monkeypatch):
    """47,999 Hz goes through a Fourier transform of each chunk."""
    monkeypatch.setattr(stream, "CHUNK", 2)
    time = np.arange(47_999 * 5) / 47_999
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 47_999)
    whole = audio.load(tmp_path / "a.wav")
    joined = np.concatenate(list(stream.stream(tmp_path / "a.wav")))
    assert len(joined) == len(whole)
    assert np.allclose(joined[1_000:-1_000], whole[1_000:-1_000], atol=1e-2)


def test_channels_that_cancel_out_give_the_first(tmp_path):
    left = noise(1.0, 16_000)
    soundfile.write(tmp_path / "a.wav", np.concatenate([left, -left], 1), 16_000, "FLOAT")
    [chunk] = stream.stream(tmp_path / "a.wav")
    assert np.array_equal(chunk, audio.load(tmp_path / "a.wav"))


def test_what_is_no_audio_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(audio.AudioError, match=r"a\.wav: found no readable audio"):
        list(stream.stream(tmp_path / "a.wav"))
    with pytest.raises(audio.NoFileError, match=r"b\.wav: found no file"):
        list(stream.stream(tmp_path / "b.wav"))
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(audio.AudioError, match=r"empty\.wav: found no samples"):
        list(stream.stream(tmp_path / "empty.wav"))


def test_a_wrong_header_is_reported_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(stream, "CHUNK", 1)
    path = tmp_path / "joined.mp3"
    file = io.BytesIO()
    soundfile.write(file, noise(1.0, 16_000), 16_000, format="MP3")
    path.write_bytes(3 * file.getvalue())
    with caplog.at_level(logging.WARNING):
        assert len(list(stream.stream(path))) > 1
    assert [each.getMessage() for each in caplog.records] == [
        f"{path}: found 3.00 s of audio, its header says 1.00 s"
    ]
