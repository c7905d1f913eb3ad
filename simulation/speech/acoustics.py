"""Make clean synthetic speech sound like a recording: add a room, noise and a microphone.

Speech is ``[samples]`` at 16 kHz, float32. Every function returns as many samples as it receives.
"""

import numpy as np
from numpy.random import Generator

from efmodel.config import SAMPLE_RATE

RT60 = (0.1, 0.6)  # seconds in which the reverberation falls by 60 dB
DIRECT = (0.0, 15.0)  # dB of the direct sound over the reverberation
SNR = (5.0, 40.0)  # dB of the speech over the noise
TILT = (0.0, 2.0)  # noise power falls as 1 / frequency to this: white, pink, brown
LOW_CUT = (30.0, 250.0)  # Hz below which the microphone picks up nothing
HIGH_CUT = (3000.0, 7500.0)  # Hz above which the microphone picks up nothing
ORDER = 4  # of the microphone's filters
PEAK = (-20.0, -1.0)  # dB relative to full scale


def record_in_room(speech: np.ndarray, chance: Generator) -> np.ndarray:
    """Return the speech with a random room, noise, microphone and loudness."""
    speech = reverberate(speech, chance.uniform(*RT60), chance.uniform(*DIRECT), chance)
    noise = coloured_noise(len(speech), chance.uniform(*TILT), chance)
    speech = add_noise(speech, noise, chance.uniform(*SNR))
    speech = band_limit(speech, chance.uniform(*LOW_CUT), chance.uniform(*HIGH_CUT))
    peak = 10 ** (chance.uniform(*PEAK) / 20)
    return np.asarray(speech / np.abs(speech).max() * peak, dtype=np.float32)


def reverberate(speech: np.ndarray, rt60: float, direct_db: float, chance: Generator) -> np.ndarray:
    """Return the speech with reverberation: the room's impulse response is decaying noise.

    The noise falls by 60 dB in ``rt60`` seconds. ``direct_db`` is the energy of the direct sound
    over the energy of the noise, in dB.
    """
    time = np.arange(1, round(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = chance.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.square(tail).sum())
    impulse = np.concatenate(([1.0], tail))
    size = len(speech) + len(impulse)  # long enough for a convolution that does not wrap around
    spectrum = np.fft.rfft(speech, size) * np.fft.rfft(impulse, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(speech)])


def coloured_noise(samples: int, tilt: float, chance: Generator) -> np.ndarray:
    """Return Gaussian noise ``[samples]`` with power proportional to ``frequency ** -tilt``."""
    spectrum = np.fft.rfft(chance.standard_normal(samples))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-tilt / 2)
    spectrum[0] = 0
    return np.asarray(np.fft.irfft(spectrum, samples))


def add_noise(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Return speech plus noise, scaled so that the speech's mean power is ``snr`` dB higher."""
    ratio = np.square(speech).mean() / np.square(noise).mean()
    return np.asarray(speech + noise * np.sqrt(ratio) * 10 ** (-snr / 20))


def band_limit(speech: np.ndarray, low: float, high: float) -> np.ndarray:
    """Filter speech by a Butterworth band-pass from ``low`` to ``high`` Hz, without delay."""
    frequency = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE)
    frequency[0] = frequency[1]
    power = 1 / (1 + (low / frequency) ** (2 * ORDER)) / (1 + (frequency / high) ** (2 * ORDER))
    return np.asarray(np.fft.irfft(np.fft.rfft(speech) * np.sqrt(power), len(speech)))
