"""From the run config to a strategy."""

import pytest
from flwr.serverapp.strategy import FedAvg, FedProx

from efmodel.settings import Settings, SettingsError
from server_app import strategy as ours
from server_app.strategy.base import RunStrategy
from server_app.strategy.registry import build, check, find
from server_app.strategy.whole_model import WholeModel
from tests.server_app.federation import OWNERS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("partial-fedavg", ours.PartialFedAvg), ("partial-fedavgm", ours.PartialFedAvgM),
        ("partial-fedadam", ours.PartialFedAdam), ("partial-fedyogi", ours.PartialFedYogi),
        ("partial-fedadagrad", ours.PartialFedAdagrad),
        ("partial-lars", ours.PartialLars),
        ("partial-lamb", ours.PartialLamb),
        ("partial-fedexp", ours.PartialFedExP),
        ("flwr.serverapp.strategy:FedAvg", FedAvg),
    ],
)  # fmt: skip
def test_a_strategy_by_name(name, kind):
    made = build(Settings(strategy=name), OWNERS)
    assert isinstance(made, RunStrategy)
    assert type(made.strategy if isinstance(made, WholeModel) else made) is kind


def test_keys_reach_the_strategy_that_knows_them():
    settings = Settings(
        strategy="partial-fedadam", eta=0.5, beta_1=0.1, tau=0.2, coverage="cohort", min_nodes=7,
        weighting="depth", wire_dtype="int8", max_update_norm="3", round_timeout=5.0, seed=3,
    )  # fmt: skip
    adam = build(settings, OWNERS)
    assert (adam.eta, adam.beta_1, adam.tau, adam.seed) == (0.5, 0.1, 0.2, 3)
    assert (adam.coverage, adam.weighting, adam.wire_dtype) == ("cohort", "depth", "int8")
    assert (adam.bound.norm, adam.min_available_nodes) == (3.0, 7)
    momentum = build(Settings(strategy="partial-fedavgm", server_momentum=0.3), OWNERS)
    assert momentum.server_momentum == 0.3
    prox = build(Settings(strategy="flwr.serverapp.strategy:FedProx", proximal_mu=0.4), OWNERS)
    assert isinstance(prox, WholeModel) and isinstance(prox.strategy, FedProx)
    assert prox.strategy.proximal_mu == 0.4 and prox.strategy.min_train_nodes == 3


def test_options_reach_a_strategy_of_ones_own():
    name = "flwr.serverapp.strategy:FedTrimmedAvg"
    settings = Settings(strategy=name, strategy_options="beta=0.3 weighted_by_key=num")
    made = build(settings, OWNERS)
    assert made.strategy.beta == 0.3 and made.strategy.weighted_by_key == "num"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("fedavg", "found 'fedavg', wanted one of partial-fedavg, .* or module:Class"),
        ("no_such_module:A", "does not load: No module named"),
        ("flwr.serverapp.strategy:Nothing", "does not load"),
        ("json:JSONDecoder", "wanted a subclass of flwr's Strategy"),
    ],
)
def test_what_is_no_strategy_is_named(name, complaint):
    with pytest.raises(SettingsError, match=complaint):
        find(name)


@pytest.mark.parametrize("text", ["alpha", "=3", "al-pha=3"])
def test_options_that_cannot_be_read_are_named(text):
    with pytest.raises(SettingsError, match="strategy-options: found"):
        build(Settings(strategy_options=text), OWNERS)


def test_options_that_the_strategy_does_not_take_are_named():
    with pytest.raises(SettingsError, match="partial-fedavg: .*alpha"):
        build(Settings(strategy_options="alpha=3"), OWNERS)
    with pytest.raises(SettingsError, match="max-update-norm: found 'lots'"):
        build(Settings(max_update_norm="lots"), OWNERS)


FLOWERS = "flwr.serverapp.strategy:"


@pytest.mark.parametrize("refuse", [check, lambda settings: build(settings, OWNERS)])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dp_noise_multiplier", 0.5), ("max_update_norm", "3"), ("wire_dtype", "int8"),
        ("select", "capacity>=2"), ("over_sample", 1.5), ("coverage", "cohort"),
        ("weighting", "uniform"), ("server_momentum", 0.5), ("eta", 0.5),
        ("client_moments", "server"),
    ],
)  # fmt: skip
def test_keys_that_a_whole_model_strategy_ignores_are_refused(refuse, key, value):
    name = key.replace("_", "-")
    wanted = f"^{name}: found {value!r}, wanted .*: the strategy {FLOWERS}FedProx does not use it"
    with pytest.raises(SettingsError, match=wanted):
        refuse(Settings(strategy=FLOWERS + "FedProx", **{key: value}))


def test_keys_that_a_strategy_uses_are_not_refused():
    used = {"seed": 3, "fraction_train": 1.0, "min_train_nodes": 2, "min_nodes": 3}
    check(Settings(strategy=FLOWERS + "FedProx", proximal_mu=0.5, **used))
    check(Settings(strategy=FLOWERS + "FedAdam", eta=0.5, beta_1=0.1, beta_2=0.5, tau=0.1))
    check(Settings(strategy=FLOWERS + "FedAvgM", server_momentum=0.1, server_learning_rate=0.5))
    check(Settings(strategy="partial-fedavg", eta=0.5))  # as in a sweep over optimizers


def test_a_partial_strategy_that_passes_no_keys_on_is_not_trusted_with_privacy(monkeypatch):
    class Closed(ours.PartialFedAvg):
        def __init__(self, owner_exits):
            super().__init__(owner_exits)

    monkeypatch.setattr(ours, "Closed", Closed, raising=False)
    name = "server_app.strategy:Closed"
    assert isinstance(build(Settings(strategy=name), OWNERS), Closed)
    with pytest.raises(SettingsError, match=f"max-update-norm: .*{name} does not use it"):
        check(Settings(strategy=name, max_update_norm="3"))


@pytest.mark.parametrize(
    "name",
    [
        "DifferentialPrivacyServerSideFixedClipping", "DifferentialPrivacyClientSideFixedClipping",
        "DifferentialPrivacyServerSideAdaptiveClipping",
        "DifferentialPrivacyClientSideAdaptiveClipping",
    ],
)  # fmt: skip
def test_a_strategy_around_another_one_is_refused(name):
    wanted = f"strategy: found {FLOWERS}{name}, which wraps another strategy"
    settings = Settings(strategy=FLOWERS + name, strategy_options="noise_multiplier=1.0")
    with pytest.raises(SettingsError, match=wanted):
        check(settings)
    with pytest.raises(SettingsError, match=wanted):
        build(settings, OWNERS)


def test_what_a_partial_strategy_refuses_is_refused_before_a_run():
    with pytest.raises(
        SettingsError, match="weighting: found 'examples', wanted uniform: dp-noise"
    ):
        check(Settings(dp_noise_multiplier=1.0))
    with pytest.raises(SettingsError, match="strategy-options: found 'alpha'"):
        check(Settings(strategy=FLOWERS + "FedAvg", strategy_options="alpha"))
