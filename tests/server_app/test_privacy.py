"""A run states what it has spent, ends before its budget, and forgets nothing when it resumes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app import app
from efmodel.settings import Settings, SettingsError
from server_app import accountant
from server_app.accountant import epsilon, release
from server_app.federation import federate
from server_app.privacy import Privacy
from server_app.run_folder import line, read_metrics
from server_app.strategy import PartialFedAvg
from server_app.vocabulary import check_private
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults
from tests.conftest import write_abc, write_folder
from tests.server_app.test_rounds import OWNERS, node, rounds, start

NOISY = {"weighting": "uniform", "max_update_norm": "1.0"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"dp_epsilon": 8.0, "dp_noise_multiplier": 1.0},
            "dp-noise-multiplier: found 1.0, wanted 0",
        ),
        ({"dp_budget": 3.0}, "dp-budget: found 3.0, wanted 0: set dp-epsilon"),
        ({"dp_epsilon": 1e-4}, r"dp-epsilon: found 0.0001, wanted at least 0.0\d+, what 96 rounds"),
        (
            {"dp_noise_multiplier": 0.5, "dp_budget": 2.0},
            r"dp-budget: found 2.0, wanted at least 10.7, what one round comes to \(central\)",
        ),
        (
            {"local_clip_norm": 1.0, "local_epsilon": 8.0, "dp_budget": 2.0},
            r"dp-budget: found 2.0, wanted at least 8.5.*\(local\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(keys, message):
    settings = Settings(**NOISY, **keys)
    with pytest.raises(SettingsError, match=message):
        Privacy.of(settings, {}).applied_to(settings)


def test_the_accountant_is_asked_for_by_name(monkeypatch):
    def missing(config):
        raise ImportError

    monkeypatch.setattr(accountant, "RdpAccountant", missing)
    settings = Settings(dp_noise_multiplier=1.0)
    with pytest.raises(SettingsError, match=r"pip install 'ef-asr\[dp\]'"):
        Privacy.of(settings, {}).applied_to(settings)
    Privacy.of(Settings(), {}).applied_to(Settings())  # nobody else needs it


def test_noise_and_characters_of_the_clients_texts_do_not_go_together():
    for keys in ({"dp_noise_multiplier": 1.0}, {"dp_epsilon": 8.0}, {"local_epsilon": 1.0}):
        with pytest.raises(SettingsError, match="vocabulary: found 'auto', wanted a language"):
            check_private(Settings(**keys))
        check_private(Settings(vocabulary="en", **keys))
    check_private(Settings())


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_the_noise_of_an_epsilon_lasts_for_exactly_the_runs_rounds(sampling):
    settings = Settings(dp_epsilon=8.0, rounds=40, dp_sampling=sampling, **NOISY)
    applied = Privacy.of(settings, {}).applied_to(settings)
    assert applied.rounds == 40
    probability = settings.fraction_train if sampling == "poisson" else 1.0
    event = release(applied.dp_noise_multiplier, probability)
    assert 7.99 < epsilon({event: 40}, settings.dp_delta) <= 8


def private_run(tmp_path, **keys):
    settings = Settings(**NOISY, **keys)
    privacy = Privacy.of(settings, {})
    settings = privacy.applied_to(settings)
    strategy = PartialFedAvg(
        OWNERS, min_train_nodes=3, dp_noise_multiplier=settings.dp_noise_multiplier, **NOISY
    )
    run = rounds(tmp_path, node)
    return replace(run, settings=settings, strategy=strategy, privacy=privacy)


def test_a_run_ends_before_its_budget_is_exceeded_and_says_what_it_spent(tmp_path):
    run = private_run(tmp_path, rounds=96, dp_noise_multiplier=4.0, dp_budget=3.0)
    run.run(start())
    records = read_metrics(run.folder.metrics)
    spent = [record["privacy"]["central"] for record in records]
    for number, each in enumerate(spent, start=1):
        assert each["epsilon"] == pytest.approx(epsilon({release(4.0): number}, 1e-5))
    assert spent[-1]["epsilon"] <= 3.0 < epsilon({release(4.0): len(records) + 1}, 1e-5)
    assert records[-1]["wer"]  # the last round is evaluated, as any run's
    assert f"central epsilon {spent[-1]['epsilon']:.3g} at delta 1e-05" in line(records[-1], 96)
    assert f'epsilon{{privacy="central"}} {spent[-1]["epsilon"]}' in run.folder.status.read_text()
    assert spent[-1]["next-epsilon"] == pytest.approx(
        epsilon({release(4.0): len(records) + 1}, 1e-5)
    )
    config = {"rounds": 96, "patience": 0, "dp-budget": 3.0}
    run.folder.report.touch()  # so that neither a sweep nor --resume runs it again
    assert run.folder.is_finished(config)
    assert not run.folder.is_finished(config | {"dp-budget": spent[-1]["next-epsilon"]})
    assert not run.folder.is_finished(config | {"dp-budget": 0.0})


def test_a_resumed_run_goes_on_from_what_it_has_spent(tmp_path):
    run = private_run(tmp_path, rounds=3, dp_noise_multiplier=2.0)
    arrays = run.run(start())
    settings = replace(run.settings, rounds=5, dp_noise_multiplier=4.0)
    privacy = Privacy.of(settings, run.folder.read_privacy(), after=3)
    again = replace(run, privacy=privacy, settings=settings, grid=LocalGrid(node, [1, 2, 3]))
    again.run(arrays, after=3)
    found = read_metrics(run.folder.metrics)[-1]["privacy"]["central"]["epsilon"]
    assert found == pytest.approx(epsilon({release(2.0): 3, release(4.0): 2}, 1e-5))


def test_a_round_counts_even_if_the_server_dies_in_it(tmp_path):
    def dies(message):
        if message.metadata.message_type == "train":
            if message.content["config"]["server-round"] == 2:
                raise KeyboardInterrupt
        return node(message)

    run = private_run(tmp_path, rounds=4, dp_epsilon=8.0)
    run = replace(run, grid=LocalGrid(dies, [1, 2, 3]))
    with pytest.raises(KeyboardInterrupt):
        run.run(start())
    ledger = json.loads(run.folder.privacy.read_text())
    assert [events["rounds"] for events in ledger["central"]] == [2]
    # Round 2 runs again, so five rounds share what was meant for four; each gets more noise.
    settings = Settings(**NOISY, dp_epsilon=8.0, rounds=4)
    privacy = Privacy.of(settings, ledger, after=1)
    applied = privacy.applied_to(settings, after=1)
    assert applied.rounds == 4 and applied.dp_noise_multiplier > run.settings.dp_noise_multiplier
    again = replace(run, grid=LocalGrid(node, [1, 2, 3]), privacy=privacy, settings=applied)
    again.run(start(), after=1)
    spent = read_metrics(run.folder.metrics)[-1]["privacy"]["central"]
    assert 7.99 < spent["epsilon"] <= 8
    finished = Privacy.of(settings, again.folder.read_privacy(), after=4)
    assert finished.applied_to(settings, after=4) == applied  # nothing is left, nor needed


def test_rounds_without_noise_cannot_be_made_private_afterwards():
    with pytest.raises(SettingsError, match="resume: found central noise, wanted no, as in 3 rou"):
        Privacy.of(Settings(dp_noise_multiplier=1.0), {}, after=3)
    ledger = {"central": [{"noise-multiplier": 1.0, "probability": 1.0, "rounds": 3}]}
    with pytest.raises(SettingsError, match="resume: found no noise, wanted central, as in 3 rou"):
        Privacy.of(Settings(), ledger, after=3)


def test_a_cohort_of_nobody_is_a_round_with_noise(tmp_path):
    """Otherwise a model that stays as it is would say that nobody was drawn."""
    run = private_run(tmp_path, rounds=1, dp_noise_multiplier=1.0)
    strategy = PartialFedAvg(
        OWNERS, fraction_train=1e-9, dp_noise_multiplier=1.0, dp_sampling="poisson", **NOISY
    )
    grid = LocalGrid(node, [1, 2, 3])
    messages = strategy.configure_train(1, start(), run.request, grid)
    new, metrics = strategy.aggregate_train(1, iter(()))
    assert messages == [] and len(metrics) == 0
    assert all(new[name].numpy().any() for name in OWNERS)


def test_whole_numbers_do_not_leave_without_noise():
    def counts(message):
        reply = node(message)
        if message.metadata.message_type == "train":
            sent = message.content["arrays"]
            reply.content["arrays"] = ArrayRecord(
                {n: Array(a.numpy() + 1) for n, a in sent.items()}
            )
        return reply

    model = start()
    model["front"] = Array(np.array([7], dtype=np.int64))
    strategy = PartialFedAvg(OWNERS, min_train_nodes=3, dp_noise_multiplier=1.0, **NOISY)
    grid = LocalGrid(counts, [1, 2, 3])
    messages = strategy.configure_train(1, model, ConfigRecord(), grid)
    new, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert new["front"].numpy() == 7 and new["one"].numpy().std() > 0


def real_run(folder, **changes):
    """Run a federation of four real clients in this process; return its folder."""
    config = {
        **defaults(), "model": str(folder / "model"), "data": "audiofolder", "output": "",
        "data-path": str(folder / "speech"), "local-epochs": 1, "fraction-train": 0.5,
        "weighting": "uniform", "max-update-norm": "0.1", "dp-epsilon": 8.0,
        "dp-sampling": "poisson", "local-clip-norm": 0.1, "local-epsilon": 0.5, "calibrate": "off",
    } | changes  # fmt: skip

    def play(message: Message) -> Message:
        place = {"partition-id": message.metadata.dst_node_id - 1, "num-partitions": 4}
        context = Context(1, message.metadata.dst_node_id, place, RecordDict(), config)
        return app(message, context)

    return federate(LocalGrid(play, range(1, 5)), Context(1, 0, {}, RecordDict(), config))


def test_a_run_of_real_clients_states_both_guarantees_and_keeps_them_when_resumed(tmp_path):
    write_abc(tmp_path / "model")
    rows = [(f"{i}.wav", "a b", f"speaker {i % 4}", 0.6 + 0.1 * i) for i in range(8)]
    write_folder(tmp_path / "speech", rows)
    first = real_run(tmp_path, rounds=2, output=str(tmp_path / "run"))
    record = read_metrics(first.metrics)[-1]
    assert record["failures"] == {}
    multiplier = record["privacy"]["central"]["noise-multiplier"]
    spent = record["privacy"]["central"]["epsilon"]
    assert spent == epsilon({release(multiplier, 0.5): 2}, 1e-5) and 7.99 < spent <= 8
    for name in ("central", "local"):
        found = f"{name}, epsilon {record['privacy'][name]['epsilon']:.3g} at delta 1e-05"
        assert found in first.report.read_text()
        assert found in (first.model / "README.md").read_text()  # the card goes with the model
        assert f"privacy, {name}: epsilon" in first.log.read_text()  # its end says it, too

    assert "speech trained on" not in (first.model / "README.md").read_text()  # an exact sum

    more = real_run(tmp_path, rounds=3, resume=str(first.path), **{"dp-epsilon": 16.0})
    last = read_metrics(more.metrics)[-1]["privacy"]
    events = {release(multiplier, 0.5): 2, release(last["central"]["noise-multiplier"], 0.5): 1}
    assert last["central"]["epsilon"] == epsilon(events, 1e-5) <= 16
    local = release(last["local"]["noise-multiplier"])
    assert last["local"]["epsilon"] == epsilon({local: 3}, 1e-5)
