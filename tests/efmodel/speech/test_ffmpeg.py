"""What phones and browsers record, through ffmpeg; each file is made by ffmpeg or by hand."""

import shutil
import subprocess
import time
from contextlib import closing

import pytest
import soundfile
import torch

from efmodel.speech import audio, ffmpeg
from efmodel.speech.segments import with_times
from tests.conftest import tone

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg here")
CODECS = {
    "m4a": ["-c:a", "aac"],
    "mp4": ["-c:a", "aac", "-movflags", "faststart"],
    "3gp": ["-c:a", "aac"],
    "webm": ["-c:a", "libopus"],
    "mkv": ["-c:a", "libopus"],
    "aac": ["-c:a", "aac", "-f", "adts"],
    "wma": ["-c:a", "wmav2"],
}


def made(tmp_path, suffix, seconds=2.0, rate=48_000, *options):
    """Make a file of a tone in a format that libsndfile cannot read."""
    wav, path = tmp_path / "tone.wav", tmp_path / f"memo.{suffix}"
    soundfile.write(wav, tone(seconds, rate, pitch=440), rate)
    command = ["ffmpeg", "-v", "error", "-i", str(wav), *options, *CODECS[suffix], str(path)]
    subprocess.run(command, check=True)
    return path


def pitch(samples):
    spectrum = torch.fft.rfft(samples[4_000:20_000]).abs()
    return float(spectrum.argmax() * 16_000 / 16_000)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", list(CODECS))
def test_what_phones_record_is_read(tmp_path, suffix):
    path = made(tmp_path, suffix)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)  # or this test tests nothing
    for source in (path, path.read_bytes()):
        recording = audio.decode(source)
        assert recording.seconds == pytest.approx(2.0, abs=0.15)
        assert abs(pitch(recording.samples) - 440) < 3
        found = audio.info(source)
        assert found.seconds == pytest.approx(recording.seconds, abs=0.01)
        assert found.rate == 48_000 and found.form == ffmpeg.format_of(source)


@needs_ffmpeg
def test_amr_of_old_phones(tmp_path):
    # AMR narrow band, 12.2 kbit/s: a magic, then frames of 20 ms with a byte of type and 31 more.
    frames = [b"\x3c" + bytes((7 * i + j) % 256 for j in range(31)) for i in range(100)]
    (tmp_path / "memo.amr").write_bytes(b"#!AMR\n" + b"".join(frames))
    found = audio.info(tmp_path / "memo.amr")
    assert (found.form, found.rate, found.channels) == ("AMR", 8_000, 1)
    assert audio.decode(tmp_path / "memo.amr").seconds == pytest.approx(2.0, abs=0.03)


@needs_ffmpeg
def test_a_part_and_a_bound(tmp_path):
    path = made(tmp_path, "m4a", 20.0)
    part = audio.decode(with_times(str(path), 5.0, 7.5))
    assert part.seconds == pytest.approx(2.5, abs=0.05) and abs(pitch(part.samples) - 440) < 3
    assert 3 < audio.decode(path, longest=3).seconds <= 4.1
    assert 3 < audio.info(path, longest=3).seconds <= 4.1


@needs_ffmpeg
def test_only_sound_of_known_formats_is_given_to_ffmpeg(tmp_path):
    playlist = tmp_path / "list.m4a"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")
    assert ffmpeg.format_of(playlist) == ""
    with pytest.raises(audio.AudioError, match="found no readable audio"):
        audio.decode(playlist)
    broken = tmp_path / "broken.m4a"
    broken.write_bytes(made(tmp_path, "m4a").read_bytes()[:300])
    with pytest.raises(audio.AudioError, match=r"broken\.m4a: found no readable audio \(ffmpeg: "):
        audio.decode(broken)
    # Nor is a file's name ever an option or a command.
    odd = tmp_path / "-version; touch x.m4a"
    odd.write_bytes(made(tmp_path, "mp4").read_bytes())
    assert audio.info(odd).seconds == pytest.approx(2.0, abs=0.1)


@needs_ffmpeg
def test_ffmpeg_is_stopped_when_enough_is_read(tmp_path):
    path = made(tmp_path, "m4a", 120.0, 8_000)
    with closing(ffmpeg.Decoder(path)) as decoder:
        next(decoder.blocks())
        process = decoder._process
    for _ in range(100):
        if process.poll() is not None:
            return
        time.sleep(0.05)
    pytest.fail("ffmpeg is still running")


@needs_ffmpeg
def test_a_compressed_sphere_file_that_cannot_be_read_is_named(tmp_path):
    fields = "channel_count -i 1\nsample_count -i 100\nsample_rate -i 16000\n"
    fields += "sample_n_bytes -i 2\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    header = b"NIST_1A\n   1024\n" + fields.encode()
    (tmp_path / "a.sph").write_bytes(header.ljust(1024) + b"ajkg\x02" + bytes(50))
    with pytest.raises(audio.AudioError, match=r"a\.sph: found no "):
        audio.decode(tmp_path / "a.sph")


def test_without_ffmpeg_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "memo.m4a").write_bytes(b"\x00\x00\x00\x1cftypM4A " + bytes(100))
    wanted = r"memo\.m4a: found MP4 .*, which needs ffmpeg: install it"
    with pytest.raises(audio.AudioError, match=wanted):
        audio.decode(tmp_path / "memo.m4a")
