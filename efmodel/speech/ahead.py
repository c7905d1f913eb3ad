"""Loading the next batch while the current one is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")
Loaded = TypeVar("Loaded")


def ahead(batches: Iterable[Batch], load: Callable[[Batch], Loaded]) -> Iterator[Loaded]:
    """Yield ``load(batch)`` of each batch, in order.

    A thread loads one batch while the one before it is used. Only this thread calls ``load``, one
    batch after the other, so that random choices in it repeat as in a plain loop. They must not
    come from torch's global generator, which the other thread uses at the same time.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        current: Future[Loaded] | None = None
        for batch in batches:
            following = thread.submit(load, batch)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()
