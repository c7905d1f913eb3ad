"""What ends a round in a thread of its own, on cores that the next round's clients leave free."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from server_app.strategy.exchange import Traffic

LOOK_SECONDS = 0.05  # between looks at whether a core is free


class Background:
    """Runs one piece of work at a time in a thread. ``close`` it in the end.

    At most one piece is under way: whoever comes with the next one waits until it is done.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "end of round")
        self._pending: Future[None] | None = None
        self._waiting_since: float | None = None

    def close(self) -> None:
        """Wait until the work is done, whatever becomes of it."""
        self._thread.shutdown(wait=True)

    def start(self, work: Callable[[], None]) -> None:
        """Start ``work`` once the work before it is done, and return at once.

        Raises
        ------
        Exception
            What the work before it raised.
        """
        self.wait()
        self._pending = self._thread.submit(work)

    def wait(self) -> None:
        """Wait until the work is done.

        Raises
        ------
        Exception
            What it raised.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        self._waiting_since = time.monotonic()
        try:
            pending.result()
        finally:
            self._waiting_since = None

    def waited_for(self) -> float:
        """Return the seconds for which the run has been waiting for the work under way."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since


class SpareCores:
    """The cores of a simulation, which its clients may use first.

    A round ends with cores that wait for the last client: there is the time for other work.

    Attributes
    ----------
    number : int
        Cores that clients train on; 0 if they train elsewhere, and all are spare.
    traffic : Traffic
        Of the round that trains now.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.traffic = Traffic()

    def wait(self) -> int:
        """Wait until there is a core without a client; return how many this machine has."""
        while self.number and self.traffic.waiting >= self.number:
            time.sleep(LOOK_SECONDS)
        free = max(1, self.number - self.traffic.waiting)
        return min(free, len(os.sched_getaffinity(0)))  # of a cluster's, others may have some
