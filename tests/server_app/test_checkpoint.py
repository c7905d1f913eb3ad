"""Checkpoints: whole or not at all, and a resumed run is the run that was never stopped."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from efmodel.settings import Settings, SettingsError
from server_app.checkpoint import Checkpoint, Checkpoints, resumed
from server_app.results.participation import participations
from server_app.rounds import Rounds
from server_app.run_folder import RunFolder, RunFolderError, read_metrics
from server_app.strategy.node import Node
from server_app.strategy.registry import STRATEGIES, build
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

CAPACITIES = {1: 1, 2: 2, 3: 3, 4: 2, 5: 1}


def federate(folder: Path, strategy: str, rounds: int, resume: bool = False, grid=None, **changes):
    """Run a federation as the ServerApp does, and return its last model."""
    changes = {"min_train_nodes": 4, "resume": str(folder) if resume else "", **changes}
    settings = Settings(strategy=strategy, rounds=rounds, **changes)
    made = build(settings, OWNERS)
    run = RunFolder.open(folder) if resume else RunFolder.create(folder)
    checkpoints = Checkpoints(run.checkpoints)
    start, after = tensors("start"), 0
    if resume:
        start, after = resumed(checkpoints, settings, made, start)
        run.forget_after(after)
    run.write_config({"strategy": strategy})
    loop = Rounds(
        grid=grid or LocalGrid(drifting(CAPACITIES), CAPACITIES),
        strategy=made,
        settings=settings,
        folder=run,
        checkpoints=checkpoints,
        evaluate=lambda arrays: [],
        request=ConfigRecord(),
        num_exits=3,
        count_costs=lambda: [1.0, 2.0, 3.0],
    )
    return loop.run(start, after), run


def some(round: int = 1, wer: float = 0.5, size: int = 100) -> Checkpoint:
    rng = np.random.default_rng(round)
    return Checkpoint(
        round=round,
        strategy="partial-fedadam",
        arrays={"a.b": rng.normal(size=size).astype(np.float32), "steps": np.array(7)},
        moments={"m": {"a.b": rng.normal(size=size)}, "steps": {"a.b": np.ones(1)}},
        nodes=[Node(2**62, "partition 3", 2, "kitchen")],
        wer=[wer, wer],
    )


def test_what_is_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.latest() is None
    checkpoints.save(some())
    found, wanted = checkpoints.latest(), some()
    assert (found.round, found.strategy, found.nodes, found.wer) == (
        wanted.round, wanted.strategy, wanted.nodes, wanted.wer,
    )  # fmt: skip
    assert np.array_equal(found.arrays["a.b"], wanted.arrays["a.b"]) and found.arrays["steps"] == 7
    assert np.array_equal(found.moments["m"]["a.b"], wanted.moments["m"]["a.b"])
    assert found.moments["steps"]["a.b"].dtype == np.float64
    done = subprocess.run(["sha256sum", "-c", "round-00001.sha256"], cwd=checkpoints.folder)
    assert done.returncode == 0


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number, wer in enumerate([0.9, 0.2, 0.5, 0.4, 0.3], start=1):
        checkpoints.save(some(number, wer))
    kept = [path.stem for path in checkpoints.paths()]
    assert kept == ["round-00002", "round-00004", "round-00005"]
    assert checkpoints.best().stem == "round-00002"
    assert len(list(tmp_path.iterdir())) == 6  # each with its hash, and nothing else


@pytest.mark.parametrize("damage", ["torn", "empty", "one bit", "no hash", "torn hash", "swapped"])
def test_a_damaged_file_is_noticed_and_the_one_before_is_used(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(some(1))
    checkpoints.save(some(2))
    path = checkpoints.paths()[-1]
    data, digest = path.read_bytes(), path.with_suffix(".sha256")
    if damage == "torn":
        path.write_bytes(data[: len(data) // 2])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "one bit":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if damage == "no hash":
        digest.unlink()
    if damage == "torn hash":
        digest.write_text(digest.read_text()[:20])
    if damage == "swapped":
        path.write_bytes(checkpoints.paths()[0].read_bytes())
    assert checkpoints.latest().round == 1
    assert f"{path}: does not match its .sha256" in caplog.text
    checkpoints.save(some(3))  # and the damaged file is in nobody's way
    assert checkpoints.latest().round == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_run_ends_in_the_same_bytes(strategy, tmp_path):
    straight, whole = federate(tmp_path / "whole", strategy, rounds=10)
    federate(tmp_path / "parts", strategy, rounds=5)
    parts, run = federate(tmp_path / "parts", strategy, rounds=10, resume=True)
    assert all(parts[name].data == straight[name].data for name in OWNERS)
    assert list(parts) == list(straight)
    timeless = [
        [{k: v for k, v in r.items() if not k.endswith("seconds")} for r in read_metrics(f.metrics)]
        for f in (whole, run)
    ]
    assert timeless[0] == timeless[1]


def simulated(ids: list[int]) -> LocalGrid:
    """Return partitions 0 to 4 under these ids: a simulation draws new ones every time."""

    def play(message: Message) -> Message:
        place = ids.index(message.metadata.dst_node_id)
        if message.metadata.message_type == "query":
            answer = ConfigRecord({"capacity": CAPACITIES[place + 1], "name": f"partition {place}"})
            return Message(RecordDict({"config": answer}), reply_to=message)
        moved = {
            name: Array(array.numpy() * np.float32(1 - 0.1 * place))
            for name, array in message.content["arrays"].items()
        }
        metrics = MetricRecord({"num-examples": 10 + place})
        content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
        return Message(content, reply_to=message)

    return LocalGrid(play, ids)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"min_train_nodes": 3}, [f"partition {place}" for place in range(5)]),
        ({"min_train_nodes": 1, "min_nodes": 1, "select": "name=partition 0"}, ["partition 0"]),
    ],
)
def test_a_run_resumed_under_new_ids_knows_its_nodes_by_name(changes, names, tmp_path):
    first, second = [11, 12, 13, 14, 15], [25, 24, 23, 22, 21]
    kind = "partial-fedavg"
    straight, whole = federate(tmp_path / "whole", kind, 8, grid=simulated(first), **changes)
    federate(tmp_path / "parts", kind, 4, grid=simulated(first), **changes)
    changes["round_timeout"] = 5.0
    parts, run = federate(tmp_path / "parts", kind, 8, True, simulated(second), **changes)
    sampled = [[r["capacities"] for r in read_metrics(f.metrics)] for f in (whole, run)]
    assert sampled[0] == sampled[1] and len(sampled[1]) == 8
    assert list(participations(read_metrics(run.metrics))) == names  # each once
    assert all(parts[name].data == straight[name].data for name in OWNERS)
    known = Checkpoints(run.checkpoints, 2).latest().nodes
    assert sorted(node.id for node in known) == sorted(second)  # nobody is kept twice


def test_rounds_after_the_last_checkpoint_are_run_again(tmp_path):
    straight, _ = federate(tmp_path / "whole", "partial-fedadam", rounds=6)
    federate(tmp_path / "torn", "partial-fedadam", rounds=4)
    folder = RunFolder.open(tmp_path / "torn")
    Checkpoints(folder.checkpoints, 2).paths()[-1].write_bytes(b"torn")
    with folder.metrics.open("a") as file:
        file.write('{"round": 5, "half a li')
    again, run = federate(tmp_path / "torn", "partial-fedadam", rounds=6, resume=True)
    assert all(again[name].data == straight[name].data for name in OWNERS)
    assert [record["round"] for record in read_metrics(run.metrics)] == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_resumed_is_said(tmp_path):
    federate(tmp_path / "run", "partial-fedavg", rounds=2)
    with pytest.raises(SettingsError, match="found a checkpoint of partial-fedavg, wanted partial"):
        federate(tmp_path / "run", "partial-fedadam", rounds=3, resume=True)
    with pytest.raises(RunFolderError, match="found no config.json"):
        federate(tmp_path / "nowhere", "partial-fedavg", rounds=3, resume=True)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep=2)
    settings = Settings(resume=str(tmp_path / "run"))
    other = tensors("start", ["front", "one"])
    with pytest.raises(SettingsError, match="a checkpoint of another model"):
        resumed(checkpoints, settings, build(settings, {"front": 0, "one": 1}), other)
    for path in checkpoints.paths():
        path.write_bytes(b"torn")
    with pytest.raises(SettingsError, match="found no whole checkpoint"):
        federate(tmp_path / "run", "partial-fedavg", rounds=3, resume=True)


def test_a_run_killed_in_its_first_round_starts_again(tmp_path):
    RunFolder.create(tmp_path / "run").write_config({})
    straight, _ = federate(tmp_path / "whole", "partial-fedavg", rounds=2)
    again, _ = federate(tmp_path / "run", "partial-fedavg", rounds=2, resume=True)
    assert all(again[name].data == straight[name].data for name in OWNERS)


ENDLESS = """
import sys
from pathlib import Path
import server_app.rounds
from tests.server_app.test_checkpoint import federate
federate(Path(sys.argv[1]), "partial-fedadam", int(sys.argv[2]), resume=sys.argv[3] == "resume")
"""


@pytest.mark.programs
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_leaves_a_run_that_resumes(tmp_path, kills):
    """Killed again and again at random moments, it ends as if nothing had happened."""
    chance, folder, rounds = random.Random(kills), tmp_path / "run", 100_000
    for attempt in range(kills):
        arguments = [str(folder), str(rounds), "resume" if attempt else "new"]
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, *arguments], stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        before = progress(folder)
        deadline = time.monotonic() + 120
        while progress(folder) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert progress(folder) > before
    reached = progress(folder)
    last = reached + 3
    again, run = federate(folder, "partial-fedadam", last, resume=True)
    straight, _ = federate(tmp_path / "whole", "partial-fedadam", last)
    assert all(again[name].data == straight[name].data for name in OWNERS)
    assert [r["round"] for r in read_metrics(run.metrics)] == list(range(1, last + 1))


def progress(folder: Path) -> int:
    """The last round that is on disk in whole."""
    latest = Checkpoints(folder / "checkpoints", keep=2).latest()
    return latest.round if latest else 0
