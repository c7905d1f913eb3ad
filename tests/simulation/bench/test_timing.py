"""What the benchmarks share: timing in turns, and a process for each measurement of memory."""

import os
import subprocess

import pytest

from simulation.bench import timing
from simulation.bench.process import in_own_process, peak_memory_bytes


def allocate(megabytes: int) -> list[float]:
    """Return this process's number, and its peak memory in MB after an allocation."""
    block = bytearray(megabytes * 10**6)
    return [os.getpid(), len(block) and peak_memory_bytes() / 1e6]


def fail(reason: str) -> None:
    raise ValueError(reason)


def test_calls_take_turns_and_the_first_turn_is_a_warm_up(monkeypatch):
    durations = {"first": iter([50.0, 3.0, 1.0, 2.0]), "second": iter([9.0, 4.0, 6.0, 5.0])}
    order = []

    def seconds(call):
        order.append(call())
        return next(durations[order[-1]])

    monkeypatch.setattr(timing, "seconds", seconds)
    medians = timing.median_seconds_in_turns([lambda: "first", lambda: "second"], 3, "test")
    assert order == ["first", "second"] * 4
    assert medians == [2.0, 5.0]


def test_a_measurement_in_its_own_process_has_its_own_memory():
    (number, small), (other, large) = (in_own_process(allocate, size) for size in (1, 400))
    assert number != other
    assert large - small > 300


def test_a_measurement_that_fails_is_an_error(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        in_own_process(fail, "no memory left")
    assert "ValueError: no memory left" in capfd.readouterr().err
