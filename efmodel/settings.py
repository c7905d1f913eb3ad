"""The run config as typed values: every key, its meaning, its default, its check.

The defaults stand in pyproject.toml too, because Flower reads them there; a test keeps both equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from efmodel.config import EXIT_LOSSES


class SettingsError(ValueError):
    """A key of the run config with a value that cannot be."""


@dataclass(frozen=True)
class Check:
    """What a value must be: a predicate, and how to say it."""

    holds: Callable[[Any], bool]
    wanted: str


def one_of(*names: str) -> Check:
    """Demand one of the names."""
    return Check(lambda value: value in names, f"one of {', '.join(names)}")


def at_least(low: float) -> Check:
    """Demand a number of ``low`` or more."""
    return Check(lambda value: low <= value < float("inf"), f"a number from {low}")


ABOVE_ZERO = Check(lambda value: 0 < value < float("inf"), "a number above 0")
SHARE = Check(lambda value: 0 < value <= 1, "a share above 0, up to 1")


def key(default: Any, meaning: str, check: Check | None = None) -> Any:
    """Declare a key of the run config."""
    return field(default=default, metadata={"meaning": meaning, "check": check})


@dataclass(frozen=True)
class Settings:
    """The run config. A field ``exit_loss`` is the key ``exit-loss``."""

    model: str = key("tiny", "preset (tiny), or a folder that `from_pretrained` loads")
    exit_loss: str = key("mean", "how the exits' losses become one", one_of(*EXIT_LOSSES))
    strategy: str = key("partial-fedavg", "strategy, by name")
    coverage: str = key(
        "trainers",
        "average a tensor over its trainers, or over the whole cohort",
        one_of("trainers", "cohort"),
    )
    weighting: str = key("examples", "what a client weighs", one_of("examples", "uniform"))
    rounds: int = key(32, "federated rounds", at_least(1))
    fraction_train: float = key(0.5, "share of the nodes that train in a round", SHARE)
    min_train_nodes: int = key(
        6, "nodes that train in a round at least, where there are so many", at_least(1)
    )
    min_nodes: int = key(2, "nodes to wait for before a round", at_least(1))
    round_timeout: float = key(3600.0, "seconds after which a round closes", ABOVE_ZERO)
    evaluate_every: int = key(1, "rounds between central evaluations; the last too", at_least(1))
    local_epochs: int = key(2, "passes over a client's own data in a round", at_least(1))
    lr: float = key(1e-3, "AdamW's learning rate on the client", ABOVE_ZERO)
    lr_schedule: str = key(
        "cooldown",
        "lr over the rounds: falling towards 0 over the last 30 % of them, or always the same",
        one_of("cooldown", "constant"),
    )
    batch_seconds: float = key(12.0, "seconds of audio in a batch, padding counted", ABOVE_ZERO)
    batch_utterances: int = key(6, "utterances in a client's batch at most", at_least(1))
    speed_perturbation: float = key(
        0.1,
        "clients also train on speech played slower and faster by this share; 0: as it is",
        Check(lambda value: 0 <= value <= 0.5, "a share from 0 to 0.5"),
    )
    seed: int = key(0, "of everything random", at_least(0))
    data: str = key("sample", "sample, audiofolder, or a plug-in's name")
    data_path: str = key("", "folder that data=audiofolder reads; a node's own config comes first")
    capacities: str = key(
        "uniform", "simulated clients' capacities: uniform, full, or shares such as 0.5,0.3,0.2"
    )
    output: str = key("", "run folder; empty: a new one under ~/ef-asr-runs")

    @classmethod
    def from_run_config(cls, config: Mapping[str, Any]) -> "Settings":
        """Read Flower's run config; keys that are none of ours are left to whoever reads them.

        Raises
        ------
        SettingsError
            Naming the key, the value found and what was wanted.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            name = each.name.replace("_", "-")
            if name in config:
                values[each.name] = _checked(name, config[name], type(each.default), each.metadata)
        return cls(**values)


def _checked(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise SettingsError(f"{name}: found {value!r}, wanted {kind.__name__}")
    check: Check | None = metadata["check"]
    if check is not None and not check.holds(value):
        raise SettingsError(f"{name}: found {value!r}, wanted {check.wanted}")
    return value
