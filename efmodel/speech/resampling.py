"""Samples of any rate at 16 kHz. Only numpy is needed here."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of every waveform inside the project
ZEROS = 6  # zero crossings of the filter on each side of its middle
ROLLOFF = 0.99  # the filter's cut-off, as a share of half the lower rate
BLOCK = 1_000_000  # samples, repeated ones included, that are filtered at once
LARGEST_KERNEL = 1_000_000  # weights of a filter; 44.1 kHz needs 76,000

Samples = NDArray[np.float32]  # [samples]; at 16 kHz where no rate is given


def resample(samples: Samples, rate: int) -> Samples:
    """Return samples ``[samples]`` of any sample rate at 16 kHz.

    The filter is torchaudio's default one, a sinc under a Hann window (Smith, "Digital Audio
    Resampling"), with a weight for each pair of phases: 0.8 billion for 47,999 Hz. Such rates are
    resampled by their Fourier transform, whose cost depends on the length alone: silence makes it
    a multiple of a time that is a whole number of samples at both rates, at most a second.
    """
    if rate == SAMPLE_RATE:
        return samples
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common  # so many samples take the same time
    size = math.ceil(len(samples) * new / old)
    if old * new > LARGEST_KERNEL:
        times = math.ceil(len(samples) / old)
        spectrum = np.fft.rfft(samples, times * old)
        # Frequencies above half the new rate are cut off, or there are none.
        whole = np.fft.irfft(spectrum, times * new) * (new / old)
        return whole[:size].astype(np.float32, copy=False)
    kernel = _kernel(old, new)
    reach = (len(kernel) - old) // 2  # samples that the filter sees on each side of `old` ones
    padded = np.pad(samples, (reach, reach + old))
    seen = np.lib.stride_tricks.sliding_window_view(padded, len(kernel))[::old]
    resampled = np.empty((len(seen), new), np.float32)
    step = max(1, BLOCK // len(kernel))
    for first in range(0, len(seen), step):
        rows = slice(first, first + step)
        np.matmul(np.ascontiguousarray(seen[rows]), kernel, out=resampled[rows])
    return resampled.reshape(-1)[:size]


@lru_cache(maxsize=4)
def _kernel(old: int, new: int) -> Samples:
    """Return the weights ``[old + 2 * reach, new]`` of the samples around ``old`` of them."""
    cut_off = min(old, new) * ROLLOFF  # twice the frequency, per time of `old` samples
    reach = math.ceil(ZEROS * old / cut_off)
    before = np.arange(-reach, old + reach)[:, None] / old  # times of the samples that are seen
    crossings = np.clip((before - np.arange(new) / new) * cut_off, -ZEROS, ZEROS)
    window = np.cos(crossings * np.pi / (2 * ZEROS)) ** 2
    kernel: Samples = (np.sinc(crossings) * window * cut_off / old).astype(np.float32)
    return kernel
