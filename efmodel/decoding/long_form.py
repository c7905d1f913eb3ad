"""Long recordings: overlapping windows, whose frames are joined in the middle of each overlap.

Texts of windows cannot be joined without mistakes at the seams, frames can. Memory does not grow
with the recording. Only numpy is needed here.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from efmodel.speech.resampling import SAMPLE_RATE

WINDOW = 30.0  # seconds, as the longest recording that is evaluated in one piece
OVERLAP = 3.0  # seconds that two windows share; the outer half of it is dropped on each side


class Window(NamedTuple):
    """A part of a recording.

    Attributes
    ----------
    samples : ndarray
        ``[samples]`` at 16 kHz.
    first, end : int
        The samples of it whose frames are kept; the end is excluded.
    """

    samples: NDArray[np.float32]
    first: int
    end: int

    def frames(self, samples_per_frame: int) -> tuple[int, int | None]:
        """Return the first frame that is kept, and the one after the last; None for all.

        A frame belongs to the window in whose part it begins.
        """
        end = self.end // samples_per_frame if self.end < len(self.samples) else None
        return self.first // samples_per_frame, end


def windows(chunks: Iterable[NDArray[np.float32]]) -> Iterator[Window]:
    """Yield the windows of a recording that comes in chunks ``[samples]`` at 16 kHz.

    What is kept of the windows covers the recording once.
    """
    length, overlap = round(WINDOW * SAMPLE_RATE), round(OVERLAP * SAMPLE_RATE)
    held = np.empty(0, np.float32)
    first = 0
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        while len(held) > length:
            yield Window(held[:length], first, length - overlap // 2)
            held = held[length - overlap :]
            first = overlap - overlap // 2
    yield Window(held, first, len(held))
