"""Speech as it comes: recorded audio goes the way of a microphone's."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from efmodel.decoding import microphone
from efmodel.decoding.listening import LONGEST, PARTIAL, listen, pieces
from efmodel.decoding.recogniser import Recogniser
from efmodel.errors import UserError
from tests.conftest import tone

RATE = 16_000


def noise(seconds: float, level: float = 0.001, rate: int = RATE) -> np.ndarray:
    random = np.random.default_rng(round(seconds * 1000))
    return (level * random.standard_normal(round(seconds * rate))).astype("float32")


def recording(*parts: tuple[str, float], level: float = 0.001, rate: int = RATE) -> np.ndarray:
    """Return speech (a tone) and pauses of so many seconds, in noise."""
    sounds = [tone(s, rate) if kind == "speech" else np.zeros(round(s * rate)) for kind, s in parts]
    samples = np.concatenate(sounds).astype("float32")
    return samples + noise(len(samples) / rate, level, rate)[: len(samples)]


def chunks(samples: np.ndarray, size: int = 1_600):
    for first in range(0, len(samples), size):
        yield samples[first : first + size]


def complete(samples: np.ndarray, rate: int = RATE, size: int = 1_600):
    """Return the start and the end of each piece in seconds."""
    found = [piece for piece in pieces(chunks(samples, size), rate) if piece.complete]
    return [(piece.start, piece.start + len(piece.samples) / rate) for piece in found]


TALK = (("pause", 1.0), ("speech", 2.0), ("pause", 0.4), ("speech", 1.0), ("pause", 2.0),
        ("speech", 0.5), ("pause", 1.5))  # fmt: skip


@pytest.mark.parametrize("level", [0.0, 0.0005, 0.002])
@pytest.mark.parametrize("size", [160, 1_600, 100_000])
def test_speech_is_cut_at_pauses_however_it_comes(level, size):
    (start, end), (later, last) = complete(recording(*TALK, level=level), size=size)
    assert 0.6 <= start <= 1.0 and 4.4 <= end <= 4.8  # the short pause is none
    assert 6.0 <= later <= 6.4 and 6.9 <= last <= 7.3


def test_other_sample_rates():
    found = complete(recording(*TALK, rate=44_100), rate=44_100)
    assert [round(start) for start, _ in found] == [1, 6]


def test_silence_clicks_and_steady_noise_are_no_speech():
    assert complete(np.zeros(RATE * 20, np.float32)) == []
    click = recording(("pause", 3.0))
    click[RATE : RATE + 300] = 0.5
    assert complete(click) == []
    found = complete(noise(30.0, 0.02))  # a fan: it is taken for speech until it is known
    assert all(end < 8 for _, end in found)


def test_speech_in_loud_noise_is_found_once_the_noise_is_known():
    samples = recording(("pause", 10.0), ("speech", 2.0), ("pause", 2.0), level=0.01)
    [*_, (start, end)] = complete(samples)
    assert 9.6 <= start <= 10.0 and 11.9 <= end <= 12.4


def test_speech_at_both_ends_of_the_stream_is_whole():
    [(start, end)] = complete(recording(("speech", 2.0)))
    assert start == 0 and end > 1.9


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    samples = tone(30.0) * (np.arange(30 * RATE) % 4_000 > 1_000)  # four syllables a second
    samples += noise(30.0, 0.003)
    samples[17 * RATE : 17 * RATE + 3_200] *= 0.01
    first, second = complete(samples)
    assert first[1] == pytest.approx(17.1, abs=0.15) and second[0] == first[1]
    assert max(end - start for start, end in (first, second)) <= LONGEST


@pytest.fixture
def recogniser(abc) -> Recogniser:
    return Recogniser.from_pretrained(abc)


def test_a_piece_is_recognised_while_it_grows_and_when_it_ends(recogniser):
    heard = list(listen(recogniser, chunks(recording(*TALK))))
    assert [h.complete for h in heard].count(True) == 2
    assert heard[-1].complete and heard[-1].result.text == "c"
    partial = [h.result.seconds for h in heard[: [h.complete for h in heard].index(True)]]
    assert len(partial) >= 2 and min(np.diff(partial)) >= PARTIAL
    final = list(listen(recogniser, chunks(recording(*TALK)), partial=False))
    assert [h.complete for h in final] == [True, True]


def test_the_piece_is_resampled(recogniser):
    [heard, _] = listen(recogniser, chunks(recording(*TALK, rate=8_000)), 8_000, partial=False)
    assert heard.result.seconds == pytest.approx(4.0, abs=0.3)


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def test_the_command_prints_a_line_for_each_piece(abc, ef_asr):
    done = ef_asr("listen", "--model", abc, "--microphone", "-", input=raw(recording(*TALK)) + b"x")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "c\nc\n", "")


class PortAudioError(Exception):
    pass


class InputStream:
    """Gives a second of sound, and ends."""

    def __init__(self, *, device, channels, samplerate, blocksize, dtype, callback,
                 finished_callback):  # fmt: skip
        assert (device, channels, samplerate, dtype) == (3, 1, 44_100, "float32")
        self.give = lambda: callback(np.zeros((blocksize, 1), "float32"), blocksize, None, None)
        self.finish = finished_callback

    def __enter__(self):
        for _ in range(10):
            self.give()
        self.finish()

    def __exit__(self, *_):
        pass


DEVICES = [
    {"name": "Speaker", "index": 0, "max_input_channels": 0},
    {"name": "USB mic", "index": 3, "max_input_channels": 1, "default_samplerate": 44_100.0},
]


@pytest.fixture
def sounddevice(monkeypatch):
    """A machine with one microphone that records at 44.1 kHz only."""

    def query_devices(device=None, kind=None):
        if kind is None:
            return DEVICES
        if device not in (None, 3, "USB"):
            raise ValueError(f"No input device matching {device!r}")
        return DEVICES[1]

    def check_input_settings(*_, **__):
        raise PortAudioError("Invalid sample rate")

    module = SimpleNamespace(PortAudioError=PortAudioError, InputStream=InputStream,
                             query_devices=query_devices,
                             check_input_settings=check_input_settings)  # fmt: skip
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


@pytest.mark.parametrize("name", ["", "3", "USB"])
def test_a_microphone_records_at_its_own_rate_until_it_is_gone(sounddevice, name):
    stream = microphone.opened(name)
    assert (stream.name, stream.rate) == ("USB mic", 44_100)
    assert [len(next(stream.chunks)) for _ in range(10)] == [4_410] * 10
    with pytest.raises(UserError, match="microphone: found no more sound"):
        next(stream.chunks)


def test_what_is_missing_is_named(sounddevice, monkeypatch):
    with pytest.raises(UserError, match=r"no single one that 'X' names, wanted one of 3 \(USB mic"):
        microphone.opened("X")
    monkeypatch.setattr(sounddevice, "query_devices", lambda *a: [] if not a else no_device())
    with pytest.raises(UserError, match="microphone: found none on this machine, wanted one"):
        microphone.opened()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"no package sounddevice, wanted it: pip install .*listen"):
        microphone.opened()


def no_device():
    raise PortAudioError("Error querying device -1")


def test_without_portaudio(tmp_path, monkeypatch):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(UserError, match="found no PortAudio .* wanted it: apt install"):
        microphone.opened()
