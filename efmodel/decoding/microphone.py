"""A microphone, or raw samples on standard input, as an iterator of samples.

Microphones need the package sounddevice and its library PortAudio: neither is imported or wanted
for anything else.
"""

import queue
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from efmodel.errors import UserError
from efmodel.speech.resampling import SAMPLE_RATE, Samples

STANDARD_INPUT = "-"
CHUNK_SECONDS = 0.1
PATIENCE = 1.0  # seconds after which a queue is asked again; a wait without end ignores Ctrl-C


class Stream(NamedTuple):
    """Sound as it comes.

    Attributes
    ----------
    name : str
        What it comes from.
    rate : int
        Sample rate in Hz.
    chunks : Iterator of ndarray
        Samples ``[samples]`` between -1 and 1. It ends with the stream, or at Ctrl-C.
    """

    name: str
    rate: int
    chunks: Iterator[Samples]


def opened(name: str = "") -> Stream:
    """Return a microphone by its number or a part of its name; by default the system's own.

    ``-`` stands for standard input: 16-bit samples of one channel at 16 kHz, little-endian.

    Raises
    ------
    UserError
        If there is none, or what it needs is not installed.
    """
    if name == STANDARD_INPUT:
        return Stream("standard input", SAMPLE_RATE, _raw_samples())
    sounddevice = _sounddevice()
    try:
        device = sounddevice.query_devices(int(name) if name.isdecimal() else name or None, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        raise UserError(_no_microphone(sounddevice, name)) from error
    rate = _rate(sounddevice, device)
    return Stream(device["name"], rate, _recorded(sounddevice, device["index"], rate))


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise UserError(
            "microphone: found no package sounddevice, wanted it: pip install -e '.[listen]'"
        ) from error
    except OSError as error:
        raise UserError(
            f"microphone: found no PortAudio ({error}), wanted it: apt install libportaudio2. "
            "Without it: arecord -q -t raw -f S16_LE -r 16000 | ef-asr listen --microphone -"
        ) from error
    return sounddevice


def _no_microphone(sounddevice: Any, name: str) -> str:
    """Return why there is no microphone of that name, and which ones there are."""
    try:
        devices = list(sounddevice.query_devices())
    except sounddevice.PortAudioError:
        devices = []
    inputs = [f"{d['index']} ({d['name']})" for d in devices if d["max_input_channels"] > 0]
    if not inputs:
        return "microphone: found none on this machine, wanted one"
    what = f"no single one that {name!r} names" if name else "no default one"
    return f"microphone: found {what}, wanted one of {', '.join(inputs)}"


def _rate(sounddevice: Any, device: dict[str, Any]) -> int:
    """Return 16 kHz if the microphone records it, or else its own sample rate."""
    try:
        sounddevice.check_input_settings(device["index"], channels=1, samplerate=SAMPLE_RATE)
    except (ValueError, sounddevice.PortAudioError):
        return round(float(device["default_samplerate"]))
    return SAMPLE_RATE


def _recorded(sounddevice: Any, index: int, rate: int) -> Iterator[Samples]:
    """Yield what a microphone records; what comes while nobody asks waits in a queue.

    Raises
    ------
    UserError
        If it cannot be opened, or is gone.
    """
    waiting: queue.Queue[Samples | None] = queue.Queue()
    try:
        with sounddevice.InputStream(
            device=index,
            channels=1,
            samplerate=rate,
            blocksize=round(CHUNK_SECONDS * rate),
            dtype="float32",
            callback=lambda samples, *_: waiting.put(samples[:, 0].copy()),
            finished_callback=lambda: waiting.put(None),
        ):
            while (samples := _next(waiting)) is not None:
                yield samples
    except KeyboardInterrupt:
        return
    except sounddevice.PortAudioError as error:
        raise UserError(f"microphone: found one that does not record ({error})") from error
    raise UserError("microphone: found no more sound, wanted it to stay connected")


def _next(waiting: "queue.Queue[Samples | None]") -> Samples | None:
    while True:
        try:
            return waiting.get(timeout=PATIENCE)
        except queue.Empty:
            continue


def _raw_samples() -> Iterator[Samples]:
    """Yield the samples on standard input."""
    size = 2 * round(CHUNK_SECONDS * SAMPLE_RATE)
    try:
        while data := sys.stdin.buffer.read(size):
            whole = data[: len(data) // 2 * 2]  # the last one may be cut off
            yield np.frombuffer(whole, "<i2").astype(np.float32) / np.float32(32768)
    except KeyboardInterrupt:
        return
