"""The stages of a start: which process stands for which, and when a round's training began."""

import json
import math
import os

import pytest

from simulation.bench import startup


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        (["/usr/bin/python3", "/venv/bin/flower-superlink", "--insecure"], "the SuperLink starts"),
        (["python", "/venv/bin/flwr", "run", "."], "the SuperLink answers, the app is submitted"),
        (["python", "/venv/bin/flwr-simulation"], "the server app's process starts"),
        (["/venv/ray/raylet", "--x"], "Ray starts"),
        (["ray::ClientAppActor"], "the first actor is up"),
        (["ray::IDLE"], ""),
        (["python", "/venv/bin/flower-superexec"], ""),
        ([], ""),
    ],
)
def test_a_process_belongs_to_a_stage(command, stage):
    assert startup.stage(command) == stage


def test_training_began_before_the_end_of_the_round(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    line = {"time": "2026-01-01T00:01:00.000+00:00", "message": "round 1/1 | clients 3/3"}
    (tmp_path / "log.jsonl").write_text(json.dumps({"time": "", "message": "x"}) + "\n")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    nodes = {name: {"wall_seconds": wall} for name, wall in (("a", 2.0), ("b", 3.0), ("c", 4.0))}
    record = {"round": 1, "evaluate-seconds": 10.0, "nodes": nodes}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    trained, ended = startup.round_times(tmp_path)
    assert ended - trained == 10 + (2 + 4)  # two cores: a then c on one, b on the other


@pytest.mark.slow
def test_every_stage_is_measured_against_a_floor():
    figures = startup.run()
    assert all(math.isfinite(figure.ratio) and figure.ratio >= 0 for figure in figures)
    stages = [figure.measured for figure in figures if figure.what.startswith(("the", "Ray"))]
    assert len(stages) == 6 and stages == sorted(stages)
