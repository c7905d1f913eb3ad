"""Ctrl-C, kill, and a terminal that closes: each of them stops a run, which then cleans up."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Raise ``KeyboardInterrupt`` at the first of the signals, and ignore all that follow.

    They are ignored to the very end, also by the programs that the cleaning up starts. A signal
    that is ignored already, as ``nohup`` does with SIGHUP, stays so. What is printed to a terminal
    that has closed goes nowhere: writing there would raise an error in the cleaning up.
    """
    terminals = [output for output in (1, 2) if os.isatty(output)]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _caught():
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGHUP:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for output in terminals:
                os.dup2(nowhere, output)
        raise KeyboardInterrupt

    for each in _caught():
        signal.signal(each, stop)


@contextmanager
def shut_out() -> Iterator[None]:
    """Let none of the signals interrupt what is done in the block: it ends the run anyway."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in _caught()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _caught() -> list[signal.Signals]:
    return [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
