"""Decoded audio in memory: the recordings that a process used last, within a bound in bytes."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from torch import Tensor

from efmodel.settings import Settings


class AudioMemory:
    """Samples by key; those that were not used for longest make room for others.

    Threads may share it.

    Parameters
    ----------
    limit : int
        Bytes that all samples may have together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()  # the last one was used last
        self._held = 0
        self._lock = Lock()

    @property
    def held(self) -> int:
        """Bytes that all samples have together now."""
        return self._held

    @property
    def limit(self) -> int:
        """Bytes that all samples may have together."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._lock:
            self._limit = limit
            self._make_room(0)

    def get(self, key: bytes, decode: Callable[[], Tensor]) -> Tensor:
        """Return the samples of ``key``; ``decode`` gives them if they are not in memory."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        samples = decode()  # takes long: other threads need not wait for it
        self.put(key, samples)
        return samples

    def put(self, key: bytes, samples: Tensor) -> None:
        """Keep samples, unless they alone exceed the limit."""
        size = num_bytes(samples)
        with self._lock:
            if key in self._kept or size > self._limit:
                return
            self._make_room(size)
            self._kept[key] = samples
            self._held += size

    def _make_room(self, size: int) -> None:
        while self._kept and self._held + size > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._held -= num_bytes(oldest)


def num_bytes(samples: Tensor) -> int:
    """Return the memory that samples hold; they may be a part of a larger tensor."""
    return samples.untyped_storage().nbytes()


_MEMORY = AudioMemory(Settings.audio_mb * 1_000_000)


def of_process() -> AudioMemory:
    """Return this process's memory for audio: all its simulated clients share one."""
    return _MEMORY
