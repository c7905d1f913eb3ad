"""The benchmark of a device that listens, in miniature."""

import pytest

from simulation.bench import device
from simulation.bench.device import Row


def row(model: str, engine: str, *exits: float) -> Row:
    return Row(model, engine, 1, {"start": 1.0, "exits": list(exits), "auto": 0.0, "peak": 200.0})


ROWS = [
    row("tiny", "torch", 0.1, 0.2), row("tiny", "ONNX", 0.02, 0.04),
    row("tiny", "ONNX int8", 0.01, 0.02),
]  # fmt: skip


def test_the_reference_of_an_engine_is_torch_with_the_same_model(monkeypatch):
    monkeypatch.setattr(device, "listen", lambda _: [*ROWS, row("small", "torch", 0.4)])
    figures = device.run()
    assert [(f.what, f.unit) for f in figures[::2]] == [
        ("tiny, ONNX, 1 threads", "s per s of audio"),
        ("tiny, ONNX int8, 1 threads", "s per s of audio"),
    ]
    assert [round(f.ratio, 3) for f in figures] == [0.2, 1.0, 0.1, 1.0]


def test_a_core_that_solves_equations_half_as_fast_takes_twice_as_long():
    seconds = device.estimated(ROWS, 2 * 11.889 / 4, "Raspberry Pi 4")
    assert seconds == {("tiny", "ONNX"): pytest.approx([0.04, 0.08])}  # no int8: see the module
    assert set(device.estimated(ROWS, 1.0, "Raspberry Pi 5")) == {
        ("tiny", "ONNX"), ("tiny", "ONNX int8"),
    }  # fmt: skip


def test_a_picture_is_drawn(tmp_path):
    device.draw(ROWS, 30.0, tmp_path / "pis.png")
    assert (tmp_path / "pis.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
def test_a_real_miniature_gives_finite_figures():
    rows = device.listen(["tiny"])
    assert [(each.engine, each.threads) for each in rows] == [
        (engine, threads) for threads in (1, 2) for engine in device.ENGINES
    ]
    for each in rows:
        assert 0 < each.took["exits"][0] < each.took["exits"][-1] < 10
        assert each.took["auto"] == 0 < each.took["start"]
    torch, onnx, _ = (each.took["peak"] for each in rows[:3])
    assert 40 < onnx < torch / 2
