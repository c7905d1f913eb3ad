"""Decoding real files, those with wrong headers among them."""

import io
import logging
import resource

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


@pytest.mark.parametrize(("right", "mean"), [(-1.0, 1.0), (0.5, 0.75), (0.0, 0.5)])
def test_stereo_becomes_mono_and_channels_that_cancel_out_become_one(tmp_path, right, mean):
    left = tone(2.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right * left], 1), 16_000, subtype="FLOAT")
    recording = audio.decode(tmp_path / "a.wav")
    np.testing.assert_allclose(recording.samples, mean * left, atol=1e-6)
    assert recording.peak == pytest.approx(np.abs(left).max())


def test_clipped_samples_are_counted(tmp_path):
    loud = np.clip(5 * tone(1.0), -1, 1)
    for name, samples in (("loud", loud), ("fine", tone(1.0))):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    share = float((np.abs(loud) >= 0.999).mean())
    assert share > 0.3
    assert audio.decode(tmp_path / "loud.wav").clipped == pytest.approx(share, abs=0.001)
    assert audio.decode(tmp_path / "fine.wav").clipped == 0


def test_what_is_no_audio_is_named(tmp_path):
    (tmp_path / "notes.wav").write_text("not audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype="float32"), 16_000)
    with pytest.raises(audio.AudioError, match=r"notes\.wav: found no readable audio"):
        audio.load(tmp_path / "notes.wav")
    with pytest.raises(audio.AudioError, match=r"empty\.wav: found no samples"):
        audio.load(tmp_path / "empty.wav")
    with pytest.raises(audio.NoFileError, match=r"gone\.wav: found no file, wanted audio"):
        audio.load(tmp_path / "gone.wav")
    with pytest.raises(audio.AudioError, match="found no readable audio .*directory"):
        audio.load(tmp_path)
    with pytest.raises(audio.AudioError, match="a row: found no readable audio"):
        audio.load(b"rubbish", "a row")


def written(samples: np.ndarray, rate: int = 16_000, **form: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **form)
    return file.getvalue()


def mp3_without_header(samples: np.ndarray) -> bytes:
    """Return an MP3 of variable rate without its first frame, which counts the frames."""
    data = written(samples, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    start = data.index(data[:2], 4)
    assert b"Xing" in data[:start] and b"Xing" not in data[start:]
    return data[start:]


def correlation(samples: torch.Tensor, original: np.ndarray) -> float:
    size = min(len(samples), len(original))
    return float(np.corrcoef(samples[:size].numpy(), original[:size])[0, 1])


NOISE = np.random.default_rng(0).standard_normal(32_000).astype("float32") * 0.1
LOUD_FIRST = np.concatenate([NOISE, tone(4.0)])
LOUD_LAST = np.concatenate([tone(4.0), NOISE])


@pytest.mark.parametrize("samples", [LOUD_FIRST, LOUD_LAST], ids=["too few", "too many"])
def test_mp3_without_a_header_is_read_to_its_end(samples):
    data = mp3_without_header(samples)
    guess = soundfile.info(io.BytesIO(data)).duration
    assert not 5 < guess < 7  # or this test tests nothing
    recording = audio.decode(data)
    assert recording.seconds == pytest.approx(6.0, abs=0.15)
    assert audio.info(data).seconds == pytest.approx(recording.seconds, abs=0.001)
    # Nothing is lost or doubled in between: the encoder's delay is the only shift.
    assert max(correlation(recording.samples[shift:], samples) for shift in range(1500)) > 0.95
    assert f"its header says {guess:.2f} s" in recording.remark
    cut = audio.decode(data[: len(data) // 2 + 50])  # a download that was broken off
    assert len(cut.samples) < len(recording.samples)
    torch.testing.assert_close(cut.samples, recording.samples[: len(cut.samples)])


def test_joined_mp3_files_are_read_to_the_end_of_the_last():
    first, second = tone(1.0, pitch=300), tone(1.5, 44_100, pitch=500)
    both = written(first, format="MP3") + written(second, 44_100, format="MP3")
    recording = audio.decode(both)
    assert recording.seconds == pytest.approx(2.5, abs=0.01)
    assert recording.remark == "found 2.50 s of audio, its header says 1.00 s"
    for part, pitch in ((slice(2_000, 14_000), 300), (slice(20_000, 36_000), 500)):
        spectrum = torch.fft.rfft(recording.samples[part]).abs()
        assert abs(spectrum.argmax() * 16_000 / (part.stop - part.start) - pitch) < 3
    tagged = written(first, format="MP3") + b"TAG" + bytes(125)
    assert audio.decode(tagged).seconds == 1.0 and audio.decode(tagged).remark == ""


def test_flac_of_unknown_length_as_written_to_a_pipe(tmp_path):
    data = bytearray(written(tone(1.5), format="FLAC"))
    data[21] &= 0xF0  # the 36 bits in which STREAMINFO counts the samples
    data[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(data)
    recording = audio.decode(tmp_path / "piped.flac")
    np.testing.assert_allclose(recording.samples, tone(1.5), atol=1e-4)
    assert recording.header_seconds is None and recording.remark == ""
    assert audio.info(tmp_path / "piped.flac").seconds == 1.5


@pytest.mark.parametrize("riff_size", [0, 36])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_of_a_recorder_that_was_killed(riff_size, subtype):
    data = bytearray(written(tone(1.5), format="WAV", subtype=subtype))
    data[4:8] = riff_size.to_bytes(4, "little")
    start = data.index(b"data") + 4
    data[start : start + 4] = bytes(4)
    np.testing.assert_allclose(audio.load(bytes(data)), tone(1.5), atol=1e-4)
    assert audio.info(bytes(data)).seconds == 1.5
    with pytest.raises(audio.AudioError, match="found no samples"):
        audio.load(bytes(data[: start + 4]))


def test_a_wrong_header_is_reported(tmp_path, caplog):
    path = tmp_path / "joined.mp3"
    path.write_bytes(2 * written(tone(1.0), format="MP3"))
    with caplog.at_level(logging.WARNING):
        audio.load(path)
    wanted = f"{path}: found 2.00 s of audio, its header says 1.00 s"
    assert [record.getMessage() for record in caplog.records] == [wanted]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_long_file_is_decoded_no_further_than_asked(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    soundfile.write(path, tone(20.0), 16_000)
    assert 2 < audio.decode(path, longest=2).seconds <= 3
    assert audio.decode(path).seconds == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("rate", [7_919, 47_999, 44_056, 192_001])
def test_odd_rates_are_resampled_exactly_and_within_memory(rate):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resampled = audio.resample(torch.from_numpy(tone(1.7, rate, pitch=1_000)), rate)
    assert len(resampled) == 27_200
    wanted = torch.from_numpy(tone(1.7, pitch=1_000))
    # Near its ends a recording that starts and stops at once has no exact form at another rate.
    torch.testing.assert_close(resampled[200:-200], wanted[200:-200], atol=1e-3, rtol=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    high = torch.from_numpy(tone(1.0, 47_999, pitch=11_000))
    low = audio.resample(high, 47_999)[500:-500]
    assert low.square().mean().sqrt() < 0.05  # tone() has a hum of 0.05 at 159 Hz


@pytest.mark.parametrize("rate", [8, 2_000_000_000])
def test_an_impossible_rate_is_named(rate):
    data = bytearray(written(tone(1.0), format="WAV", subtype="PCM_16"))
    data[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(audio.AudioError, match=f"found a sample rate of {rate} Hz, wanted"):
        audio.load(bytes(data))
    with pytest.raises(audio.AudioError, match=f"found a sample rate of {rate} Hz, wanted"):
        audio.info(bytes(data))
