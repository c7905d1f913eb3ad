"""Runs side by side: grouped, averaged over seeds, and shown by a real browser with no network."""

import base64
import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from typer.testing import CliRunner

from efmodel import cli
from efmodel.config import preset
from efmodel.model.compute import multiply_adds
from efmodel.settings import Settings
from server_app.results.comparison import Axis, group
from server_app.results.page import write_comparison
from server_app.results.run import Run, find_runs
from server_app.results.versions import versions
from server_app.run_folder import RunFolder
from tests.conftest import small_config
from tests.server_app.results.test_report import HOSTILE, Cells, one_round

CHROMIUM = shutil.which("chromium")
WHITE = 0.99


def write_run(
    path: Path,
    wer: list[tuple],
    capacities: dict[str, int] | None = None,
    method: str = "",
    part: int | None = None,
    **config,
) -> Path:
    """Write a run of as many rounds as ``wer`` has entries."""
    capacities = capacities or {"pi": 3, "clock": 1}
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"rounds": len(wer), "seed": 0, **config}))
    if method:
        command = {
            "method": method,
            "nodes": 4,
            "commands": [f"ef-asr simulate --set x={path.name}"],
        }
        command |= {} if part is None else {"part": part}
        (path / "command.json").write_text(json.dumps(command))
    trainers = [sum(depth >= exit for depth in capacities.values()) for exit in (1, 2, 3)]
    with (path / "metrics.jsonl").open("w") as file:
        for number, rates in enumerate(wer, start=1):
            record = one_round(number, capacities, {}, rates) | {"trainers-per-exit": trainers}
            file.write(json.dumps(record) + "\n")
    return path


def methods_of(*folders: Path) -> dict:
    return {m.label: m for m in group([Run.read(path) for path in find_runs(folders)])}


def means(method, rate="wer") -> list:
    return [found and found.mean for found in method.final(rate)]


def test_seeds_of_a_method_are_repetitions(tmp_path):
    last = [(0.5, 0.4, 0.3), (0.4, 0.4, 0.4), (0.9, 0.4, 0.1)]
    for seed, rates in enumerate(last):
        write_run(
            tmp_path / str(seed), [(1, 1, 1), rates], method="hetero", seed=seed, output=str(seed)
        )
    (method,) = methods_of(tmp_path).values()
    assert method.label == "hetero" and len(method.repetitions) == 3
    found = method.final("wer")
    assert [each.mean for each in found] == pytest.approx(np.mean(last, axis=0))
    assert [each.deviation for each in found] == pytest.approx(np.std(last, axis=0, ddof=1))
    curve = method.curve("wer", 1, Axis.ROUNDS)
    assert [place for place, _ in curve] == [1, 2]
    assert sorted(curve[1][1].values) == [0.4, 0.5, 0.9]


def test_runs_that_differ_in_a_key_are_methods_of_their_own(tmp_path):
    for name, changes in {
        "a": {"lr": 0.1},
        "b": {"lr": 0.1, "seed": 1},
        "c": {},  # a key that a config does not have is at its default
        "d": {"lr": 0.2, "weighting": "depth"},
    }.items():
        write_run(tmp_path / name, [(0.5, 0.5, 0.5)], method="hetero", **changes)
    write_run(tmp_path / "e", [(0.5, 0.5, 0.5)], lr=7.0)  # another method: no difference in lr
    found = methods_of(tmp_path)
    assert {label: len(method.runs) for label, method in found.items()} == {
        "hetero (lr=0.1, weighting=examples)": 2,
        "hetero (lr=0.003, weighting=examples)": 1,
        "hetero (lr=0.2, weighting=depth)": 1,
        "e": 1,
    }
    assert found["e"].final("wer")[0].deviation is None


def test_a_part_speaks_for_its_deepest_trained_exit(tmp_path):
    parts = {
        # capacity: rates and rounds of a federation of devices of just that capacity
        0: ({"pi": 1, "clock": 1}, [(0.9, 0.8, 0.8), (0.31, 0.9, 0.9)]),
        1: ({"pi": 2, "clock": 2}, [(0.2, 0.8, 0.8), (0.2, 0.52, 0.9), (0.2, 0.32, 0.9)]),
        2: ({"pi": 3, "clock": 1}, [(0.1, 0.1, 0.33)]),
    }
    for part, (capacities, wer) in parts.items():
        write_run(
            tmp_path / str(part), wer, capacities, "separate", part, select=f"capacity=={part + 1}"
        )
    (method,) = methods_of(tmp_path).values()
    assert means(method) == [0.31, 0.32, 0.33]
    # In round 2 the third part is over: it counts as it ended, in rates and in bytes.
    (repetition,) = method.repetitions
    assert [evaluation.round for evaluation in repetition.evaluations] == [1, 2, 3]
    assert repetition.evaluations[1].rates["wer"] == (0.31, 0.52, 0.33)
    sent = [evaluation.bytes for evaluation in repetition.evaluations]
    assert sent == [3 * 380, 5 * 380, 6 * 380]
    # Two clients of the third part trained exit 1, but of a model that is not taken there.
    assert [trainers.mean for trainers in method.trainers_per_exit()] == [2, 2, 1]


def test_parts_that_end_at_the_same_exit_are_averaged(tmp_path):
    for part, (depth, rate) in enumerate([(1, 0.2), (1, 0.4), (3, 0.6)]):
        rates = [(rate, 0.1, rate)]
        path = write_run(tmp_path / str(part), rates, {"pi": depth}, "local", part)
        assert not Run.read(path).is_federated
    (method,) = methods_of(tmp_path).values()
    assert means(method) == [pytest.approx(0.3), None, 0.6]
    assert method.bytes() is None and method.curve("wer", 1, Axis.BYTES) == []
    assert method.curve("wer", 1, Axis.ROUNDS)


def test_a_single_part_does_not_speak_for_all_exits(tmp_path):
    """A compound method is one from its first run on: the others are still to come."""
    depths = {"pi": 2, "clock": 2}
    write_run(tmp_path / "1", [(0.5, 0.4, 0.3)], depths, "separate", 1, select="capacity=2")
    (method,) = methods_of(tmp_path).values()
    assert means(method) == [None, 0.4, None]


def test_a_seed_that_lacks_a_part_is_marked_and_not_in_the_costs(tmp_path):
    for seed, part in ((0, 0), (0, 1), (1, 0)):
        depths = {"pi": part + 1, "clock": part + 1}
        path = tmp_path / f"{seed}-{part}"
        write_run(path, [(0.1 * (seed + 1), 0.4)] * 2, depths, "separate", part, seed=seed)
    write_run(tmp_path / "hetero", [(0.5, 0.4, 0.3)], method="hetero")
    found = methods_of(tmp_path)
    separate = found["separate"]
    assert separate.unfinished and not found["hetero"].unfinished
    assert means(separate) == [pytest.approx(0.15), 0.4]
    assert separate.bytes().values == (4 * 380,) and separate.client_updates().values == (8,)
    for axis in (Axis.BYTES, Axis.COMPUTE):
        assert [len(each.values) for _, each in separate.curve("wer", 1, axis)] == [1, 1]
    assert [len(each.values) for _, each in separate.curve("wer", 1, Axis.ROUNDS)] == [2, 2]
    text = write_comparison(find_runs([tmp_path]), tmp_path / "out").read_text()
    assert "separate *" in [row[0] for row in Cells(text).rows] and "lacks a part" in text


def test_exits_that_nobody_trained_stay_blank(tmp_path):
    write_run(tmp_path / "smallest", [(0.4, 0.9, 0.9)], {"pi": 1, "clock": 1})
    (method,) = methods_of(tmp_path).values()
    assert means(method) == [0.4, None, None]
    assert [found and found.mean for found in method.trainers_per_exit()] == [2, None, None]


def test_the_same_part_twice_is_refused_by_name(tmp_path):
    for name, part in (("a", 0), ("b", 1), ("c", 1)):
        write_run(tmp_path / name, [(0.4, 0.9, 0.9)], method="local", part=part)
    done = CliRunner().invoke(cli.build(), ["report", str(tmp_path)])
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and "part 1 of local with seed 0" in said
    assert f"{tmp_path / 'b'} and in {tmp_path / 'c'}" in said


def test_a_round_costs_three_passes_over_each_clients_audio(tmp_path):
    capacities = {"pi": 3, "clock": 1, "phone": 1}
    path = write_run(tmp_path / "run", [(1, 1, 1)] * 2, capacities, **{"local-epochs": 5})
    run = Run.read(path)
    costs = multiply_adds(preset("tiny"))
    one = 3 * 5 * 6.0 * (costs[2] + 2 * costs[0])  # 6 s of audio each, see one_round
    assert run.cumulative_multiply_adds == pytest.approx([one, 2 * one])
    assert (run.client_updates, run.trained_seconds) == (6, 2 * 5 * 18.0)
    small_config(layer_type="conformer").save_pretrained(path / "model")  # what was really trained
    smaller = Run.read(path).cumulative_multiply_adds
    assert smaller is not None and smaller[0] < one / 2


def test_a_strategy_of_other_models_costs_what_its_rounds_say(tmp_path):
    named = {"strategy": "simulation.heterofl:HeteroFL"}
    path = write_run(tmp_path / "run", [(1, 1, 1)] * 2, {"pi": 3, "clock": 1}, **named)
    assert Run.read(path).cumulative_multiply_adds is None  # written down by an earlier version
    records = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    records[-1]["multiply-adds"] = [7.0, 8.0, 9.0]  # resumed with this one
    (path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    one = 3 * Settings().local_epochs * 6.0 * (9.0 + 7.0)
    assert Run.read(path).cumulative_multiply_adds == pytest.approx([one, 2 * one])


def test_a_run_that_is_no_method_is_called_by_its_folder(tmp_path):
    folder = RunFolder.at(write_run(tmp_path / "evening", [(0.5, 0.4, 0.3)]))
    folder.add_command("ef-asr simulate", "", 3)
    assert Run.read(folder.path).method == "evening" and Run.read(folder.path).nodes == 3


def test_the_page_names_the_versions_of_the_runs_and_not_of_its_reader(tmp_path):
    here, later = {"python": "3.11.1", "torch": "1.0"}, {"python": "3.11.1", "torch": "2.0"}
    for name, on in (("a", [here]), ("b", [here, here, later]), ("old", [])):
        folder = RunFolder.at(write_run(tmp_path / name, [(0.5, 0.4, 0.3)], method=name))
        for each in on:
            folder.add_versions(each)
    assert Run.read(tmp_path / "b").versions == [here, later]
    assert Run.read(tmp_path / "b").commands == ["ef-asr simulate --set x=b"]  # is still there
    text = write_comparison(find_runs([tmp_path]), tmp_path / "out").read_text()
    found = re.findall("Versions of the runs: (.*)[.]</p>", text)
    assert found == ["python 3.11.1, torch 1.0; python 3.11.1, torch 2.0; unknown"]


def test_a_plain_run_has_versions_and_no_command(tmp_path):
    """What ``flwr run`` starts, and ``ef-asr simulate`` resumes."""
    folder = RunFolder.at(write_run(tmp_path / "run", [(0.5, 0.4, 0.3)]))
    folder.add_versions(versions())
    run = Run.read(folder.path)
    assert (run.method, run.nodes, run.commands) == ("run", None, [])
    assert run.versions == [versions()] and {"python", "torch", "flwr"} <= versions().keys()
    folder.add_command("ef-asr simulate", "", 3)
    assert Run.read(folder.path).versions == [versions()]


def test_who_did_what_may_be_unknown(tmp_path):
    path = write_run(tmp_path / "run", [(0.5, 0.5, 0.5)])
    record = json.loads((path / "metrics.jsonl").read_text()) | {"nodes": {}}
    (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (method,) = methods_of(path).values()
    assert method.multiply_adds() is None and method.trained_seconds() is None
    assert method.curve("wer", 1, Axis.COMPUTE) == []


@pytest.fixture
def sweep(tmp_path):
    """Two seeds of one method, one unfinished; one with a hostile name; one without a test."""
    folder = tmp_path / "sweep"
    write_run(folder / "0", [(0.5, 0.4, 0.3), (0.25, 0.2, 0.15)], method="hetero")
    write_run(folder / "1", [(0.5, 0.4, 0.3), (0.35, 0.2, 0.25)], method="hetero", seed=1)
    write_run(folder / "2", [(0.30, 0.1, 0.2)], method=HOSTILE)
    write_run(folder / "3", [(), ()], method="blind")
    (folder / "0" / "checkpoints").mkdir()
    preset("tiny").save_pretrained(folder / "0" / "model")  # a config.json, but no run
    config = json.loads((folder / "2" / "config.json").read_text()) | {"rounds": 9}
    (folder / "2" / "config.json").write_text(json.dumps(config))
    return folder


def test_the_page_read_back(sweep, tmp_path):
    output = tmp_path / "out"
    done = CliRunner().invoke(cli.build(), ["report", str(sweep), "--output", str(output)])
    assert done.exit_code == 0, done.output
    page = output / "comparison.html"
    assert done.output.splitlines()[-1] == str(page)
    text = page.read_text()
    cells = Cells(text)
    plain = re.sub(r"base64,[\w+/=]+", "", text)
    assert cells.loads == [] and not re.search(r"https?:|//\w|<script|@import|url\(", plain)
    rates, cost = {}, {}
    for row in cells.rows:
        (rates if len(row) == 8 else cost).setdefault(row[0], row)
    assert rates["hetero"][1:5] == ["2", "30.0± 7.1", "20.0± 0.0", "20.0± 7.1"]
    assert rates[f"{HOSTILE} *"][1:5] == ["1", "30.0", "10.0", "20.0"]
    assert rates["blind"][1:5] == ["1", "–", "–", "–"]
    # The lowest of each column, and all that look like it.
    assert re.findall(r'best">([\d.]+)', text) == ["30.0", "20.0", "15.0", "10.0"] + [
        "30.0", "10.0", "20.0", "15.0", "5.0", "10.0"
    ]  # fmt: skip
    assert cost["hetero"][1:3] == ["0, 1", "2"] and cost[f"{HOSTILE} *"][2] == "1 of 9"
    assert "ef-asr simulate --set x=1" in text and "1 of them" in text
    embedded = [base64.b64decode(each) for each in re.findall(r"base64,([\w+/=]+)", text)]
    assert len(embedded) == 9
    assert sorted(embedded) == sorted(file.read_bytes() for file in output.glob("*.png"))
    for file in output.glob("*.png"):
        pixels = image.imread(file)[..., :3]
        assert (pixels < WHITE).any(axis=-1).mean() > 0.005, file.name
    with (output / "comparison.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    hetero = [row for row in table if row["method"] == "hetero"]
    assert [float(row["wer"]) for row in hetero] == pytest.approx([0.3, 0.2, 0.2])
    assert float(hetero[2]["wer-deviation"]) == pytest.approx(np.std([0.15, 0.25], ddof=1))
    assert [row["wer-deviation"] for row in table if row["method"] == HOSTILE] == [""] * 3
    assert "blind" not in {row["method"] for row in table}  # no exit of it was ever tested


@pytest.mark.programs
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page")
def test_a_browser_without_a_network_shows_the_page(sweep, tmp_path):
    page = write_comparison(find_runs([sweep]), tmp_path / "out")
    picture = tmp_path / "page.png"
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    seen = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    rows = {row[0]: row for row in Cells(seen.stdout).rows if row}
    assert HOSTILE in " ".join(rows) and "hetero" in rows
    subprocess.run(
        [CHROMIUM, *options, "--window-size=1280,4000", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, timeout=300, check=True,
    )  # fmt: skip
    pixels = image.imread(picture)[..., :3]
    inked = (pixels < WHITE).any(axis=-1)
    assert inked[:600].mean() > 0.01  # the table
    colourful = (pixels.max(-1) - pixels.min(-1) > 0.3)[1000:]
    assert colourful.mean() > 0.001  # the pictures


def test_the_page_says_that_naive_averaging_would_send_whole_models(tmp_path):
    write_run(tmp_path / "hetero", [(0.5, 0.4, 0.3)])
    said = "(preset naive) would send those"
    page = write_comparison(find_runs([tmp_path]), tmp_path / "out")
    assert said not in " ".join(page.read_text().split())
    write_run(tmp_path / "naive", [(0.5, 0.4, 0.3)], coverage="cohort")
    page = write_comparison(find_runs([tmp_path]), tmp_path / "out")
    assert said in " ".join(page.read_text().split())
    assert {m.bytes().mean for m in methods_of(tmp_path).values()} == {380}  # as it was sent


def test_different_data_and_model_sizes_side_by_side(tmp_path):
    write_run(tmp_path / "a", [(0.5, 0.4, 0.3)])
    b = write_run(tmp_path / "b", [(0.2, 0.1)], {"pi": 2, "clock": 2}, data="librispeech")
    small_config(exit_layers=[2, 4]).save_pretrained(b / "model")
    text = write_comparison(find_runs([tmp_path]), tmp_path / "out").read_text()
    assert "librispeech; sample" in text and "do not compare" in text
    assert 'best">' not in text  # no winner between different tests
    rows = {row[0]: row for row in Cells(text).rows if len(row) == 8}
    assert rows["b"][2:5] == ["20.0", "10.0", "–"]


def test_a_single_run_keeps_its_own_page(sweep, tmp_path):
    done = CliRunner().invoke(cli.build(), ["report", str(sweep / "0"), str(sweep / "0" / ".")])
    assert done.output.splitlines()[-1] == str(sweep / "0" / "report.html")


def test_a_folder_without_a_run_is_named(sweep, tmp_path):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(cli.build(), ["report", str(sweep), str(tmp_path / "empty")])
    assert done.exit_code == 2 and f"{tmp_path / 'empty'} or below" in " ".join(done.output.split())


def test_an_unstarted_run_is_listed(tmp_path):
    write_run(tmp_path / "a", [(0.5, 0.4, 0.3)])
    write_run(tmp_path / "b", [], rounds=7)
    text = write_comparison(find_runs([tmp_path]), tmp_path / "out").read_text()
    rows = [row for row in Cells(text).rows if row and row[0] == "b *"]
    assert rows[0][2:5] == ["–", "–", "–"] and rows[1][2] == "0 of 7"
