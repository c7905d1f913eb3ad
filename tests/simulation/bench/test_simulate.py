"""The figures of simulated rounds, and miniatures of the runs that they are read from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.bench import scale, simulate
from simulation.bench.scale import write_speakers


def record(train_seconds: float, walls: list[float]) -> dict:
    names = [f"partition {number}" for number in range(len(walls))]
    did = {name: {"wall_seconds": wall} for name, wall in zip(names, walls, strict=True)}
    return {
        "sampled": len(walls),
        "answered": len(walls),
        "train-seconds": train_seconds,
        "capacities": dict.fromkeys(names, 1),
        "nodes": dict(reversed(did.items())),  # replies come in another order than messages go
    }


def test_overhead_leaves_round_1_out_and_the_end_is_what_the_order_costs():
    rounds = [record(20, [1, 1, 1, 3]), record(5, [1, 1, 1, 3]), record(4, [3, 1, 1, 1])]
    later, ends, first, pace = simulate.of_rounds(rounds, actors=2)
    assert (later.measured, later.reference) == (18, 12)
    assert (ends.measured, ends.reference) == (2 * (4 + 3), 12)
    assert (first.measured, first.reference) == (40, 6)
    assert pace.measured == pytest.approx(60 * 8 / 9) and pace.reference == 80


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.integers(1, 5))
def test_a_schedule_keeps_graham_s_bound(durations, actors):
    end = simulate.longest(durations, actors)
    assert end >= max(sum(durations) / actors, max(durations)) - 1e-6
    assert end <= sum(durations) / actors + max(durations) + 1e-6


@pytest.mark.slow
def test_a_real_miniature_gives_finite_figures(tmp_path):
    speech = write_speakers(tmp_path / "speech", 6)
    figures = simulate.run(2, (1.0,), "--data", str(speech))
    assert all(math.isfinite(figure.ratio) and figure.ratio > 0 for figure in figures)
    assert figures[0].ratio > 1 and "6 clients a round" in figures[0].what


@pytest.mark.slow
def test_a_federation_of_few_beside_one_of_fewer():
    whole, own, *times = scale.run(many=12, few=6, rounds=2)
    assert whole.reference > own.reference > 100  # MB: torch alone is more
    assert all(math.isfinite(figure.ratio) and figure.ratio > 0 for figure in (whole, own, *times))
