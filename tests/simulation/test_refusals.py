"""What a run refuses, in this process: before anything starts, and in the server app."""

import pytest
from flwr.app import Context, Message, RecordDict

from client_app import app
from efmodel.settings import Settings, SettingsError
from server_app.federation import federate
from server_app.strategy.registry import build
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults
from simulation.simulate import simulate
from tests.server_app.federation import OWNERS
from tests.simulation.command import invoke


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "/no/such/folder"], "data-path: found no folder /no/such/folder"),
        (["--data", "libri"], "data: found 'libri', wanted one of"),
        (
            ["--set", "roundz=3"],
            "--set: found 'roundz', wanted a key that `ef-asr config` lists; "
            "did you mean 'rounds'?",
        ),
        (["--set", "lr=fast"], "--set: lr: found 'fast', wanted a number"),
        (["--rounds", "0"], "rounds: found 0, wanted a number from 1"),
        (["--nodes", "99"], "nodes: found 99, wanted at most 18, the number"),
        (
            ["--set", "strategy=flwr.serverapp.strategy:FedAvg", "--set", "select=capacity>=2"],
            "select: found 'capacity>=2', wanted '': the strategy",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    arguments, complaint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = invoke(simulate, *arguments)
    assert done.exit_code == 2 and complaint in done.stderr
    assert not (tmp_path / "runs").exists()


def federated(folder, **changes) -> None:
    """Run a federation of four real clients in this process."""
    config = {**defaults(), "rounds": 1, "max-utterances": 2, "output": str(folder), **changes}

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = {"partition-id": node - 1, "num-partitions": 4}
        return app(message, Context(1, node, place, RecordDict(), config))

    federate(LocalGrid(play, range(1, 5)), Context(1, 0, {}, RecordDict(), config))


def test_the_server_app_raises_for_a_model_that_there_is_not(tmp_path):
    wanted = "model: found 'none', wanted one of tiny, small, paper, wav2vec2-base"
    with pytest.raises(SettingsError, match=wanted):
        federated(tmp_path / "run", model="none")


def test_flowers_own_fedavg_wants_full_capacities(tmp_path):
    wanted = (
        r"sends whole models, but found [\s\S]*"
        r"wanted capacity 3 on every node \(capacities=full\), or a partial"
    )
    with pytest.raises(SettingsError, match=wanted):
        federated(tmp_path / "run", strategy="flwr.serverapp.strategy:FedAvg")


def test_an_option_that_an_installed_strategy_does_not_take_is_refused(plugin, monkeypatch):
    monkeypatch.syspath_prepend(plugin)
    assert build(Settings(strategy="calm", strategy_options="patience=0.25"), OWNERS)
    with pytest.raises(SettingsError, match="strategy calm: patience: found 7"):
        build(Settings(strategy="calm", strategy_options="patience=7"), OWNERS)
