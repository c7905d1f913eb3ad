"""A recording of any length, decoded in chunks: memory does not grow with it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.speech import audio, sound

CHUNK = 30  # seconds that are resampled at once; whole seconds are whole samples at every rate
CONTEXT = 1  # seconds on each side of a chunk that resampling sees too

Pairs = NDArray[np.float32]  # [samples, 2]: the mean of the channels, and the first one
_NOTHING: Pairs = np.empty((0, 2), np.float32)


def stream(source: str | Path | bytes, name: str = "") -> Iterator[Tensor]:
    """Yield the samples of :func:`efmodel.speech.audio.load` in chunks ``[samples]`` at 16 kHz.

    Channels that cancel each other out are found in each chunk by itself.

    Raises
    ------
    AudioError
        As :func:`efmodel.speech.audio.load`; the chunks before the fault come first.
    """
    with audio.named_errors(source, name), sound.opened(source) as file:
        empty = True
        for chunk in _resampled(file.blocks):
            if not bool(torch.isfinite(chunk).all()):
                raise audio.AudioError("found infinite or undefined samples, wanted finite numbers")
            empty = False
            yield chunk
        if empty:
            raise audio.AudioError("found no samples, wanted audio")


def _resampled(blocks: sound.Blocks) -> Iterator[Tensor]:
    """Yield mono chunks at 16 kHz of blocks ``[frames, channels]``, each with its sample rate."""
    before, held, rate = _NOTHING, _NOTHING, 0
    for block, block_rate in blocks:
        if block_rate != rate:  # the files joined to an MP3 may differ
            if len(held):
                yield _chunk(before, held, _NOTHING, rate)
            before, held, rate = _NOTHING, _NOTHING, block_rate
        held = np.concatenate([held, np.stack([block.mean(1), block[:, 0]], 1)])
        if len(held) >= (CHUNK + CONTEXT) * rate:
            chunk, held = held[: CHUNK * rate], held[CHUNK * rate :]
            yield _chunk(before, chunk, held, rate)
            before = chunk[-CONTEXT * rate :]
    if len(held):
        yield _chunk(before, held, _NOTHING, rate)


def _chunk(before: Pairs, chunk: Pairs, after: Pairs, rate: int) -> Tensor:
    """Return a chunk ``[samples]`` at 16 kHz, resampled with what is around it."""
    both = np.concatenate([before, chunk, after[: CONTEXT * rate]])
    cancelled = np.abs(both[:, 0]).max() < audio.CANCELLED * np.abs(both[:, 1]).max()
    resampled = audio.resample(torch.from_numpy(both[:, int(cancelled)].copy()), rate)
    first = len(before) // rate * SAMPLE_RATE
    last = first + len(chunk) // rate * SAMPLE_RATE if len(after) else None
    return resampled[first:last]
