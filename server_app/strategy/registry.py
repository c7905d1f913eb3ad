"""Build the strategy that the run config names: ours, a plug-in's, or any of Flower's."""

import importlib
import inspect
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import Any

from flwr.serverapp.strategy import Strategy

from efmodel.errors import did_you_mean
from efmodel.settings import Settings, SettingsError, keys
from server_app.strategy import exit_metrics
from server_app.strategy.base import RunStrategy
from server_app.strategy.fedavg import PartialFedAvg
from server_app.strategy.layerwise import PartialFedExP, PartialLamb, PartialLars
from server_app.strategy.optimizers import (
    PartialFedAdagrad,
    PartialFedAdam,
    PartialFedAvgM,
    PartialFedYogi,
)
from server_app.strategy.whole_model import WholeModel

GROUP = "ef_asr.strategies"
STRATEGIES: dict[str, type[RunStrategy]] = {
    "partial-fedavg": PartialFedAvg,
    "partial-fedavgm": PartialFedAvgM,
    "partial-fedadam": PartialFedAdam,
    "partial-fedyogi": PartialFedYogi,
    "partial-fedadagrad": PartialFedAdagrad,
    "partial-lars": PartialLars,
    "partial-lamb": PartialLamb,
    "partial-fedexp": PartialFedExP,
}


def build(
    settings: Settings, owner_exits: Mapping[str, int], frozen: Iterable[str] = ()
) -> RunStrategy:
    """Return the strategy that the run config names.

    Its constructor is given the keys of the run config that it has parameters for
    (``server-momentum`` as ``server_momentum``), and ``strategy-options`` besides. A strategy that
    is not written for runs, such as Flower's own, comes in the adapter ``WholeModel``.

    Raises
    ------
    SettingsError
        If there is no such strategy, or its constructor refuses an argument.
    """
    kind = find(settings.strategy)
    offered: dict[str, Any] = {
        **asdict(settings),
        "owner_exits": owner_exits,
        "frozen": frozen,
        "node_timeout": settings.round_timeout,
        "min_available_nodes": settings.min_nodes,
        "train_metrics_aggr_fn": exit_metrics.aggregate,
    }
    parameters = _parameters(kind)
    _check_keys(settings, kind, parameters)
    further = options(settings.strategy_options)
    arguments = {name: value for name, value in offered.items() if name in parameters} | further
    try:
        strategy = kind(**arguments)
    except (TypeError, ValueError) as error:
        unknown = further.keys() - parameters
        hint = "".join(did_you_mean(name, parameters) for name in sorted(unknown))
        raise SettingsError(f"strategy {settings.strategy}: {error}{hint}") from error
    if isinstance(strategy, RunStrategy):
        return strategy
    return WholeModel(strategy, settings, num_exits=max(owner_exits.values()))


def check(settings: Settings) -> None:
    """Refuse, before a run starts, what ``build`` would refuse in it.

    A strategy of others is not built here, since it may need the owner exits of the run's model.

    Raises
    ------
    SettingsError
        As ``build``.
    """
    kind = find(settings.strategy)
    if kind in STRATEGIES.values():
        build(settings, {"": 1})
    _check_keys(settings, kind, _parameters(kind))
    options(settings.strategy_options)


def _check_keys(settings: Settings, kind: type[Strategy], parameters: set[str]) -> None:
    """Refuse a strategy of strategies, and keys that the strategy would ignore.

    Privacy is among them. A partial strategy may be given the keys of another one's optimizer, so
    that a sweep can compare both.
    """
    name = settings.strategy
    if "strategy" in parameters:
        raise SettingsError(
            f"strategy: found {name}, which wraps another strategy, wanted one that does not; for "
            "privacy set max-update-norm and dp-noise-multiplier with a partial strategy"
        )
    partial = issubclass(kind, PartialFedAvg)
    known = [PartialFedAvg] if partial else STRATEGIES.values()
    ignored = set[str]().union(*map(_parameters, known)) - parameters - {"seed"}  # of all else too
    for key in keys().values():
        value = getattr(settings, key.field)
        if value != key.default and key.field in ignored:
            wanted = f"wanted {key.default!r}: the strategy {name} does not use it"
            raise SettingsError(f"{key.name}: found {value!r}, {wanted}")
    if "frozen" not in parameters and (settings.freeze or settings.train != "all"):
        found = f"found freeze = {settings.freeze!r}, train = {settings.train!r}"
        raise SettingsError(f"strategy {name}: {found}, wanted a partial strategy")


def find(name: str) -> type[Strategy]:
    """Return the class that a name stands for.

    Raises
    ------
    SettingsError
        If there is none.
    """
    plugins = {point.name: point for point in entry_points(group=GROUP)}
    if name in STRATEGIES:
        return STRATEGIES[name]
    names = [*STRATEGIES, *plugins]
    wanted = f"wanted one of {', '.join(names)}, or module:Class{did_you_mean(name, names)}"
    if name not in plugins and ":" not in name:
        raise SettingsError(f"strategy: found {name!r}, {wanted}")
    try:
        if name in plugins:
            kind = plugins[name].load()
        else:
            module, _, attribute = name.partition(":")
            kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"strategy: found {name!r}, which does not load: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        raise SettingsError(f"strategy: found {kind!r}, wanted a subclass of flwr's Strategy")
    return kind


def options(text: str) -> dict[str, Any]:
    """Return ``strategy-options``, such as ``alpha=0.3 name=x``, as arguments.

    Raises
    ------
    SettingsError
        If a part is not ``name=value``.
    """
    arguments = {}
    for part in shlex.split(text):
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsError(f"strategy-options: found {part!r}, wanted name=value")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value  # a string needs no quotes
    return arguments


def _parameters(kind: type[Strategy]) -> set[str]:
    """Return the names that a class's constructor takes, through each ``**kwargs`` of its bases."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names
