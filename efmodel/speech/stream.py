"""A recording of any length, decoded in chunks: memory does not grow with it.

Only numpy and soundfile are needed here: a device without torch decodes in the same way.
"""

from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efmodel.speech import sound
from efmodel.speech.resampling import SAMPLE_RATE, Samples, resample

CHUNK = 30  # seconds that are resampled at once; whole seconds are whole samples at every rate
CONTEXT = 1  # seconds on each side of a chunk that resampling sees too

Pairs = NDArray[np.float32]  # [samples, 2]: the mean of the channels, and the first one
_NOTHING: Pairs = np.empty((0, 2), np.float32)


def stream(source: str | Path | bytes, name: str = "") -> Iterator[Samples]:
    """Yield the samples of :func:`efmodel.speech.audio.load` in chunks ``[samples]`` at 16 kHz.

    Channels that cancel each other out are found in each chunk by itself. A header that gives
    another length is reported on stderr at the end.

    Raises
    ------
    AudioError
        As :func:`efmodel.speech.audio.load`; the chunks before the fault come first.
    """
    with sound.named_errors(source, name), sound.opened(source) as file:
        length = 0
        for chunk in _resampled(file.blocks):
            if not np.isfinite(chunk).all():
                raise sound.AudioError("found infinite or undefined samples, wanted finite numbers")
            length += len(chunk)
            yield chunk
        if not length:
            raise sound.AudioError("found no samples, wanted audio")
        if remark := sound.remark(file.header, length / SAMPLE_RATE, file.part):
            getLogger(__name__).warning("%s: %s", sound.label(source, name), remark)


def _resampled(blocks: sound.Blocks) -> Iterator[Samples]:
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


def _chunk(before: Pairs, chunk: Pairs, after: Pairs, rate: int) -> Samples:
    """Return a chunk ``[samples]`` at 16 kHz, resampled with what is around it."""
    both = np.concatenate([before, chunk, after[: CONTEXT * rate]])
    cancelled = np.abs(both[:, 0]).max() < sound.CANCELLED * np.abs(both[:, 1]).max()
    resampled = resample(both[:, int(cancelled)], rate)
    first = len(before) // rate * SAMPLE_RATE
    last = first + len(chunk) // rate * SAMPLE_RATE if len(after) else None
    return resampled[first:last]
