"""Strategies of others: what their methods may return in a run, and what is refused by name."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from efmodel.settings import Settings
from server_app.checkpoint import Checkpoints
from server_app.rounds import Rounds
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy import PartialFedAvg
from server_app.strategy.contract import StrategyError
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors

CAPACITIES = {1: 1, 2: 2, 3: 3, 4: 3}


def run(tmp_path, strategy, rounds=2):
    """Run rounds as the ServerApp does; return the last model, and what the run wrote down."""
    folder = RunFolder.create(tmp_path / "run")
    loop = Rounds(
        grid=LocalGrid(drifting(CAPACITIES), CAPACITIES),
        strategy=strategy,
        settings=Settings(rounds=rounds),
        folder=folder,
        checkpoints=Checkpoints(folder.checkpoints),
        evaluate=lambda arrays: [],
        request=ConfigRecord(),
        num_exits=3,
        count_costs=lambda: [1.0, 2.0, 3.0],
    )
    return loop.run(tensors("start")), read_metrics(folder.metrics)


def all_four(kind, **more):
    return kind(OWNERS, min_train_nodes=4, min_available_nodes=4, **more)


class Stepping(PartialFedAvg):
    """Its step returns what the test says, of the mean."""

    def __init__(self, *arguments, makes, **more):
        super().__init__(*arguments, **more)
        self.makes = makes

    def step(self, name, current, mean):
        return self.makes(mean)


@pytest.mark.parametrize(
    "makes",
    [
        lambda mean: mean.astype(np.float64),
        lambda mean: np.float64(1) * mean,  # NumPy 2 makes float64 of it
        lambda mean: mean.tolist(),
        lambda mean: mean.T.copy().T,  # another order in memory
    ],
    ids=["float64", "numpy 2", "list", "order"],
)
def test_what_a_step_returns_is_cast_to_the_tensors_own_type(tmp_path, makes):
    found, records = run(tmp_path, all_four(Stepping, makes=makes))
    wanted, _ = run(tmp_path / "plain", all_four(PartialFedAvg))
    assert [(r["answered"], r["failed"]) for r in records] == [(4, 0)] * 2
    for name in OWNERS:
        assert found[name].numpy().dtype == np.float32
        np.testing.assert_array_equal(found[name].numpy(), wanted[name].numpy())


@pytest.mark.parametrize(
    ("makes", "complaint"),
    [
        (lambda mean: None, r"found None, wanted float32\[2, 3\]"),
        (lambda mean: mean[:1], r"found float32\[1, 3\], wanted float32\[2, 3\]"),
        (lambda mean: mean.sum(), r"found float32\[\], wanted float32\[2, 3\]"),
        (lambda mean: mean * np.nan, "found nan or inf, wanted finite numbers"),
        (lambda mean: mean.astype(np.float64) * 1e300, "found nan or inf"),
        (lambda mean: mean * 1j, r"found array\(.*wanted float32\[2, 3\]"),
        (lambda mean: "mean", "found 'mean', wanted float32"),
        (lambda mean: [[1.0], [1.0, 2.0]], r"found \[\[1.0\], \[1.0, 2.0\]\], wanted float32"),
    ],
    ids=["None", "shape", "number", "nan", "overflow", "complex", "text", "ragged"],
)
def test_a_step_that_returns_no_such_tensor_ends_the_run_by_name(tmp_path, makes, complaint):
    with pytest.raises(StrategyError, match=rf"^Stepping\.step: front: {complaint}"):
        run(tmp_path, all_four(Stepping, makes=makes))


class Generator(PartialFedAvg):
    def configure_train(self, *arguments):
        yield from super().configure_train(*arguments)


def test_configure_train_may_be_a_generator(tmp_path):
    found, records = run(tmp_path, all_four(Generator))
    assert [(r["answered"], r["failures"]) for r in records] == [(4, {})] * 2
    wanted, _ = run(tmp_path / "plain", all_four(PartialFedAvg))
    assert all(found[name] == wanted[name] for name in OWNERS)


class Picky(PartialFedAvg):
    def configure_train(self, *arguments):
        messages = super().configure_train(*arguments)
        return [m for m in messages if m.metadata.dst_node_id != 2]


@pytest.mark.parametrize("over_sample", [1.0, 1.3])
def test_a_node_that_a_strategy_does_not_ask_has_not_failed(tmp_path, over_sample):
    strategy = Picky(
        OWNERS, min_train_nodes=4 if over_sample == 1.0 else 3, over_sample=over_sample
    )
    _, [record, _] = run(tmp_path, strategy)
    assert sorted(record["capacities"]) == ["1", "3", "4"]
    counts = [record[key] for key in ("sampled", "answered", "failed", "spare")]
    assert counts == [3, 3, 0, 0] and record["failures"] == {}


class Adding(PartialFedAvg):
    """Sends each node a message of its own."""

    def configure_train(self, *arguments):
        for message in super().configure_train(*arguments):
            config = ConfigRecord({**message.content["config"], "lucky": 7})
            content = RecordDict({"arrays": message.content["arrays"], "config": config})
            yield Message(content, message.metadata.dst_node_id, "train")


def test_a_strategy_may_make_messages_of_its_own(tmp_path):
    found, records = run(tmp_path, all_four(Adding))
    assert [(r["answered"], r["failures"]) for r in records] == [(4, {})] * 2
    assert records[0]["bytes-down"] == records[0]["bytes-up"] > 0
    wanted, _ = run(tmp_path / "plain", all_four(PartialFedAvg))
    assert all(found[name] == wanted[name] for name in OWNERS)


@pytest.mark.parametrize(
    ("returned", "complaint"), [(None, "found None"), ([{}], "found {}"), (7, "found 7")]
)
def test_what_is_no_list_of_messages_is_named(tmp_path, returned, complaint):
    class Odd(PartialFedAvg):
        def configure_train(self, *arguments):
            return returned

    with pytest.raises(StrategyError, match=rf"Odd\.configure_train: {complaint}, wanted messages"):
        run(tmp_path, all_four(Odd))


@pytest.mark.parametrize(
    ("moments", "complaint"),
    [
        ({"steps": 3}, r"Hoarder\.moments\['steps'\]: found 3, wanted {tensor name: array}"),
        ({"v": {"one": 0.5}}, r"Hoarder\.moments\['v'\]\['one'\]: found 0.5, wanted a numpy array"),
        ({"v": {"one": np.array(None)}}, r"\['v'\]\['one'\]: found array\(None"),
        ([1.0], r"Hoarder\.moments: found \[1.0\], wanted {kind: {tensor name: array}}"),
        ({"a/b": {}}, "found the kind 'a/b', wanted a text without slash"),
    ],
    ids=["number", "number by tensor", "object", "list", "slash"],
)
def test_moments_that_no_checkpoint_can_keep_are_named(tmp_path, moments, complaint):
    class Hoarder(PartialFedAvg):
        def step(self, name, current, mean):
            self.moments = moments
            return mean

    with pytest.raises(StrategyError, match=complaint):
        run(tmp_path, all_four(Hoarder))
