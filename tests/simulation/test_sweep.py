"""Sweeps: what a file plans, and that real runs are done once, resumed and compared."""

import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from efmodel.settings import SettingsError
from server_app.run_folder import read_metrics
from simulation import methods
from simulation.sweep import plan
from simulation.sweep_command import sweep
from tests.conftest import small_config
from tests.server_app.results.test_comparison import write_run
from tests.simulation.command import ef_asr, invoke, processes, start

SHIPPED = sorted((Path(methods.__file__).parents[1] / "sweeps").glob("*.toml"))
METHODS = 'methods = ["hetero", "separate", "centralised"]'
SWEEP = f"""
{METHODS}
seeds = [0, 1]
nodes = 6

[config]
rounds = 3
lr = 2

[grid]
exit-loss = ["mean", "linear"]

[method.separate]
min-train-nodes = 2
"""


def written(folder: Path, text: str = SWEEP) -> Path:
    file = folder / "small.toml"
    file.write_text(text)
    return file


def test_every_method_is_valid_and_named_by_its_file():
    assert {"centralised", "full", "hetero", "skewed", "exclusive", "smallest", "separate", "local",
            "naive", "distill", "heterofl", "paper"} <= set(methods.names())  # fmt: skip
    for name in methods.names():
        assert methods.load(name).name == name


def test_a_sweep_is_every_method_with_every_option_and_seed(tmp_path):
    runs = plan(written(tmp_path), tmp_path / "out", {"rounds": 4})
    assert len(runs) == 2 * 2 * (1 + 3 + 1)
    assert len({run.folder for run in runs}) == len(runs)
    assert {run.config["rounds"] for run in runs} == {4} and {run.config["lr"] for run in runs} == {
        2.0
    }
    for run in runs:
        assert run.config["exit-loss"] in run.folder.parts[-2 if run.part is None else -3]
        assert run.nodes == (1 if run.method == "centralised" else 6)
        if run.method == "separate":
            assert run.config["select"] == f"capacity={run.part + 1}"
            assert run.config["min-train-nodes"] == 2
    first = runs[0].command()
    assert "seed=1" in runs[-1].command() and "lr=2.0" in first and "rounds=4" in first
    assert runs[1].name == "separate/exit-loss=mean/seed-0/part-0"


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_shipped_sweeps_give_every_method_as_many_client_updates(file, tmp_path):
    small = file.stem == "fsdd-small"  # which has six exits, and fewer methods
    runs = plan(file, tmp_path, {"model": "small" if small else "tiny"})
    assert small or {run.method for run in runs} == set(methods.names())
    clients = max(run.nodes for run in runs)
    updates = Counter()
    for run in runs:
        if run.method == "centralised":  # one client's update is everybody's
            updates[run.method] += run.config["rounds"] * clients
        elif run.method != "local":
            eligible = clients / (3 if run.method == "separate" else 1)
            asked = max(int(run.config["fraction-train"] * eligible), run.config["min-train-nodes"])
            updates[run.method] += run.config["rounds"] * asked
    assert updates["hetero"] and all(
        count == pytest.approx(updates["hetero"], rel=0.05) for count in updates.values()
    )
    # And all of them train on the same clients' speech as often.
    for key in ("partition", "local-epochs", "batch-seconds", "batch-utterances", "lr"):
        assert len({run.config[key] for run in runs}) == 1, key


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"hetero"', '"hetro"', "small.toml: preset: found 'hetro', wanted one of centra"),
        ("lr = 2", "lr = 'fast'", "small.toml: lr: found 'fast', wanted a number"),
        ('"hetero"', '"hetro"', "; did you mean 'hetero'?"),
        ("nodes = 6", "node = 6", "; did you mean 'nodes'?"),
        (
            "lr = 2",
            "lrr = 2",
            "small.toml: found 'lrr', wanted a key that `ef-asr config` lists; did you",
        ),
        ("lr = 2", "lr = -1.0", "small.toml: lr: found -1.0, wanted a number above 0"),
        ("seeds = [0, 1]", "seeds = ['a']", "seeds: found ['a'], wanted a list of whole numbers"),
        ("seeds = [0, 1]", "seeds = 3", "small.toml: seeds: found 3, wanted a list of whole"),
        ("seeds = [0, 1]", "seeds = []", "seeds: found [], wanted a list of whole numbers"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "found hetero/exit-loss=mean/seed-0 twice, wanted"),
        ("seeds = [0, 1]", "seeds = [-1]", "small.toml: hetero: seed: found -1, wanted a number"),
        ("nodes = 6", "nodes = 'x'", "small.toml: nodes: found 'x', wanted a whole number from 0"),
        ("nodes = 6", "nodes = -3", "small.toml: nodes: found -3, wanted a whole number from 0"),
        (SWEEP, f"{METHODS}\nmethod = ['hetero']", "method: found ['hetero'], wanted tables"),
        (METHODS, 'methods = "hetero"', "methods: found 'hetero', wanted a list of names"),
        (METHODS, "", "small.toml: methods: found [], wanted a list of names of methods"),
        ("[method.separate]", "[method]\nseparate = 3", "wanted tables [method.NAME]"),
        ("min-train-nodes = 2", "parts = 3", "small.toml: [method.separate]: parts: found 3"),
        ("min-train-nodes = 2", "parts = []", "parts: found [], wanted a list of tables"),
        ("min-train-nodes = 2", "nodes = -1", "[method.separate]: nodes: found -1, wanted a whole"),
        ("min-train-nodes = 2", "seed = 1", "small.toml: seed: found in separate, but"),
        ("min-train-nodes = 2", "parts = [{seed = 1}]", "seed: found in separate, but"),
        ("lr = 2", "seed = 1", "seed: found in [config], but seeds = [...] gives them"),
        ("lr = 2", "output = 'x'", "small.toml: output: found in [config], but"),
        ("lr = 2", "select = 'capacity=>2'", "small.toml: hetero: select: found 'capacity=>2'"),
        ("lr = 2", "strategy = 'fedavg'", "small.toml: hetero: strategy: found 'fedavg', wanted"),
        ("lr = 2", "strategy = 'no.such:One'", "found 'no.such:One', which does not load"),
        (
            "lr = 2",
            "strategy = 'flwr.serverapp.strategy:FedAvg'\ncoverage = 'cohort'",
            "small.toml: hetero: coverage: found 'cohort', wanted 'trainers': the strategy",
        ),
        ("[grid]", "[grid]\nresume = ['x']", "small.toml: resume: found in [grid], but"),
        ("[method.separate]", "[method.local]", "[method.local], which is none of its methods"),
        ("nodes = 6", "node = 6", "found 'node', wanted methods"),
        ("nodes = 6", "nodes = ", "small.toml: Invalid value"),
        ('["mean", "linear"]', '"mean"', "exit-loss: found 'mean', wanted a list"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_by_name(tmp_path, old, new, complaint):
    with pytest.raises(SettingsError) as error:
        plan(written(tmp_path, SWEEP.replace(old, new)), tmp_path, {})
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"min-nodes": 3}, "min-nodes: found --set min-nodes=3, but centralised has its own in "),
        ({"capacities": "full"}, "capacities=full, but hetero and separate and centralised have"),
        ({"select": "tag=x"}, "select: found --set select=tag=x, but separate has its own"),
        ({"exit-loss": "sum"}, "exit-loss: found --set exit-loss=sum, but [grid] has its own in"),
        ({"seed": 3}, "small.toml: seed: found in --set, but seeds = [...] gives them"),
        ({"resume": "RUN"}, "small.toml: resume: found in --set, but"),
        ({"rounds": 0}, "--set: rounds: found 0, wanted a number from 1"),
    ],
)
def test_an_override_that_would_not_reach_every_run_is_refused(tmp_path, overrides, complaint):
    with pytest.raises(SettingsError) as error:
        plan(written(tmp_path), tmp_path, overrides)
    assert complaint in str(error.value)


def test_an_override_that_some_methods_have_their_own_of_starts_nothing(tmp_path):
    fsdd = next(file for file in SHIPPED if file.stem == "fsdd")
    done = invoke(sweep, fsdd, "--output", tmp_path / "out", "--set", "rounds=84")
    assert done.exit_code == 2
    assert "found --set rounds=84, but centralised and local have their own in" in done.stderr
    assert not (tmp_path / "out").exists()


def of_one_method(folder: Path, method: str, own: str = "") -> Path:
    return written(folder, f'methods = ["{method}"]\n[method.{method}]\n{own}')


SIX = "wanted 'uniform', 'full' or 6 shares"


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        ("skewed", f"small.toml: skewed: capacities: found '0.6,0.3,0.1', {SIX}"),
        ("smallest", f"small.toml: smallest: capacities: found '1,0,0', {SIX}"),
        ("exclusive", "small.toml: exclusive: model: found 'small' with 6 exits, wanted 3, or"),
        ("separate", "or select or parts for so many in [method.separate]"),
    ],
)
def test_a_method_for_three_exits_is_refused_for_a_model_with_six(tmp_path, method, complaint):
    file = of_one_method(tmp_path, method)
    assert plan(file, tmp_path, {"model": "tiny"})
    assert plan(file, tmp_path, {"model": "facebook/wav2vec2-base"})  # whose exits none knows yet
    with pytest.raises(SettingsError) as error:
        plan(file, tmp_path, {"model": "small"})
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("skewed", "capacities = '5,4,3,2,1,1'"),
        ("exclusive", "select = 'capacity>=5'"),
        ("separate", "parts = [{select = 'capacity<=3'}, {select = 'capacity>3'}]"),
    ],
)
def test_a_method_with_its_own_for_six_exits_is_planned(tmp_path, method, own):
    assert plan(of_one_method(tmp_path, method, own), tmp_path, {"model": "paper"})


def test_the_exits_of_a_saved_model_count(tmp_path):
    file = of_one_method(tmp_path, "exclusive")
    small_config().save_pretrained(tmp_path / "three")
    assert plan(file, tmp_path, {"model": str(tmp_path / "three")})
    small_config(exit_layers=[2, 4]).save_pretrained(tmp_path / "two")
    with pytest.raises(SettingsError, match="two' with 2 exits, wanted 3"):
        plan(file, tmp_path, {"model": str(tmp_path / "two")})


def test_a_folder_with_a_run_of_another_config_is_left_alone(tmp_path):
    (run, *_) = plan(written(tmp_path), tmp_path / "out", {})
    run.prepare()
    (run.folder / "config.json").write_text(json.dumps({**run.config, "lr": 1.0}))
    with pytest.raises(SettingsError, match=r"holds a run with lr = 1.0, wanted 2.0"):
        run.prepare()


def test_a_folder_with_a_run_of_another_number_of_nodes_is_left_alone(tmp_path):
    (run, *_) = plan(written(tmp_path), tmp_path / "out", {})
    run.prepare()
    (more, *_) = plan(written(tmp_path, SWEEP.replace("nodes = 6", "nodes = 7")), tmp_path / "out",
                      {})  # fmt: skip
    more.prepare()  # nothing was begun there
    assert json.loads((run.folder / "command.json").read_text())["nodes"] == 7
    (run.folder / "config.json").write_text(json.dumps(run.config))
    more.prepare()
    with pytest.raises(SettingsError, match=r"holds a run with nodes = 7, wanted 6"):
        run.prepare()


def test_a_relative_data_path_is_the_one_that_the_run_wrote_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (run, *_) = plan(written(tmp_path), tmp_path / "out", {"data-path": "speech"})
    assert run.config["data-path"] == str(tmp_path / "speech")


def test_runs_that_cannot_be_compared_are_named_with_no_traceback(tmp_path):
    """A run's saved model is damaged: the sweep names it and says where the runs are."""
    file = written(tmp_path, 'methods = ["hetero"]\nnodes = 4\n[config]\nrounds = 1\n')
    run = write_run(tmp_path / "out" / "hetero" / "seed-0", [(1, 1, 1)], method="hetero")
    (run / "report.html").touch()
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text('{"exit_layers": [3, 1]}')
    done = invoke(sweep, file, "--output", tmp_path / "out")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert f"the runs are in {tmp_path / 'out'}, but their comparison failed:" in done.stderr
    assert "exit_layers: found [3, 1]" in done.stderr

    (run / "command.json").write_text("{")
    done = invoke(sweep, file, "--output", tmp_path / "out")
    assert done.exit_code == 2 and done.stderr.startswith(f"{run / 'command.json'}: found no JSON")


def short_example(folder: Path) -> Path:
    """Write the documentation's example with one run of each method, both of them short."""
    text = (Path(__file__).parents[2] / "docs" / "examples" / "sweep.toml").read_text()
    for old, new in (
        ("rounds = 8", 'rounds = 6\nevaluate-every = 6\nlocal-epochs = 1\npartition = "speaker:2"'),
        ("rounds = 24", "rounds = 2"),
        ("seeds = [0, 1]", "seeds = [0]"),
        ("lr = [0.001, 0.003]", "lr = [0.003]"),
    ):
        assert old in text
        text = text.replace(old, new)
    return written(folder, text)


@pytest.mark.programs
def test_a_sweep_runs_its_methods_and_compares_them(speech, tmp_path):
    file, out = short_example(tmp_path), tmp_path / "out"
    command = ["sweep", str(file), "--data", str(speech), "--output", str(out)]
    done = ef_asr(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    page = Path(done.stdout.splitlines()[-1])
    assert page.suffix == ".html"
    assert "hetero" in page.read_text() and "exclusive" in page.read_text()
    assert sorted(len(read_metrics(path)) for path in out.rglob("metrics.jsonl")) == [2, 6]
    again = invoke(sweep, file, "--data", speech, "--output", out)
    assert again.exit_code == 0 and "runs: 2; done: 2" in again.stdout


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_goes_on(speech, tmp_path):
    """The same command finishes the runs, and repeats nothing."""
    file, out = short_example(tmp_path), tmp_path / "out"
    command = ["sweep", str(file), "--data", str(speech), "--output", str(out)]
    first = start(*command, cwd=tmp_path)
    metrics = out / "hetero" / "lr=0.003" / "seed-0" / "metrics.jsonl"
    deadline = time.monotonic() + 500
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode == 130
    before = read_metrics(metrics)
    assert 1 <= len(before) < 6

    assert not processes(tmp_path)
    again = ef_asr(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert read_metrics(metrics)[: len(before)] == before
    assert sorted(len(read_metrics(path)) for path in out.rglob("metrics.jsonl")) == [2, 6]
    assert len(json.loads((metrics.parent / "command.json").read_text())["commands"]) == 2
