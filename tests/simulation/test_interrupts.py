"""Ctrl-C, kill and a terminal that closes, sent to this very process."""

import os
import signal

import pytest

from simulation import interrupts
from simulation.interrupts import SIGNALS


@pytest.fixture(autouse=True)
def handlers():
    """Start from Python's own handlers: a test run in the background is started without SIGINT."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_stops_the_run_and_no_other_its_cleaning_up(first):
    interrupts.stop_on_signals()
    cleaned = []
    with pytest.raises(KeyboardInterrupt):
        try:
            send(first)
        finally:
            for each in SIGNALS:
                send(each)
                cleaned.append(each)
    assert cleaned == list(SIGNALS)


def test_a_signal_that_is_ignored_stays_ignored():
    """As ``nohup ef-asr simulate`` asks for."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.stop_on_signals()
    send(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_nothing_interrupts_a_block_that_shuts_signals_out():
    interrupts.stop_on_signals()
    with interrupts.shut_out():
        for each in SIGNALS:
            send(each)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_printing_to_a_terminal_that_closed_raises_nothing():
    """In a child process, since its outputs are replaced."""
    ours, terminal = os.openpty()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(terminal, 1)
            interrupts.stop_on_signals()
            try:
                os.close(terminal)
                os.close(ours)
                send(signal.SIGHUP)
            except KeyboardInterrupt:
                os.write(1, b"interrupted")
                status = 0
        finally:
            os._exit(status)
    os.close(ours)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
