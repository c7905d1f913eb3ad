"""Decoding real files."""

import numpy as np
import pytest
import soundfile
import torch

from efmodel.speech import audio
from tests.conftest import tone


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_any_format_and_rate_becomes_16_khz(tmp_path, suffix, rate):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(1.0, rate, pitch=440), rate)
    samples = audio.load(path)
    assert samples.dtype == torch.float32 and abs(len(samples) - 16_000) <= 1600
    spectrum = torch.fft.rfft(samples[2000:14_000])
    peak = spectrum.abs().argmax() * 16_000 / 12_000
    assert abs(peak - 440) < 3


def test_opus_bytes(tmp_path):
    path = tmp_path / "tone.opus"
    soundfile.write(path, tone(1.0, 48_000), 48_000, format="OGG", subtype="OPUS")
    assert len(audio.load(path.read_bytes(), "tone.opus")) == pytest.approx(16_000, abs=200)


def test_stereo_becomes_mono(tmp_path):
    left = tone(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], 1), 16_000, subtype="FLOAT")
    assert audio.load(tmp_path / "a.wav").abs().max() == pytest.approx(0, abs=1e-6)


def test_what_is_no_audio_is_named(tmp_path):
    (tmp_path / "notes.wav").write_text("not audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype="float32"), 16_000)
    with pytest.raises(audio.AudioError, match=r"notes\.wav: found no readable audio"):
        audio.load(tmp_path / "notes.wav")
    with pytest.raises(audio.AudioError, match=r"empty\.wav: found no samples"):
        audio.load(tmp_path / "empty.wav")
    with pytest.raises(audio.AudioError, match=r"gone\.wav"):
        audio.load(tmp_path / "gone.wav")
    with pytest.raises(audio.AudioError, match="a row: found no readable audio"):
        audio.load(b"rubbish", "a row")
