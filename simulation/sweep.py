"""What a sweep runs: methods x options x seeds, each a folder of its own."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.partition import capacity_of
from efmodel.settings import Check, Settings, SettingsError
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy import registry
from server_app.strategy.selection import selector
from simulation import methods
from simulation.methods import Preset
from simulation.run_config import Config, defaults

# Keys of the run config that a sweep sets itself, and what from.
OWN = {
    "seed": "seeds = [...] gives them",
    "output": "--output says where all runs go",
    "resume": "a sweep goes on with its runs by itself",
}
# What a sweep's file may hold.
FILE = {
    "methods": methods.list_of(str, "names of presets"),
    "seeds": methods.list_of(int, "whole numbers"),
    "nodes": methods.COUNT,
    "config": methods.TABLE,
    "grid": methods.TABLE,
    "method": Check(
        lambda value: isinstance(value, dict) and all(map(methods.TABLE.holds, value.values())),
        "tables [method.NAME]",
    ),
}


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes
    ----------
    folder : Path
        Its run folder.
    method, part : str, int or None
        The preset, and which of its parts, if it has several.
    nodes : int
        Simulated clients; 0 for one per training speaker.
    config : dict
        Its whole run config, but for ``output``.
    """

    folder: Path
    method: str
    part: int | None
    nodes: int
    config: Config

    @property
    def name(self) -> str:
        """What tells it from the others, such as "separate/seed-0/part-1"."""
        parts = self.folder.parts
        return "/".join(parts[len(parts) - parts[::-1].index(self.method) - 1 :])

    def command(self) -> list[str]:
        """Return what starts it, or goes on with it where it was stopped."""
        known = defaults()
        changed = {key: value for key, value in self.config.items() if value != known[key]}
        words = ["simulate", "--output", str(self.folder)]
        if self.rounds_done():
            changed["resume"] = str(self.folder)
        words += ["--nodes", str(self.nodes)] if self.nodes else []
        for key, value in sorted(changed.items()):
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        return words

    def rounds_done(self) -> int:
        """Return how many rounds are behind it."""
        return len(read_metrics(RunFolder.at(self.folder).metrics))

    def is_done(self) -> bool:
        """Return whether it has ended well."""
        folder = RunFolder.at(self.folder)
        return folder.report.is_file() and self.rounds_done() == self.config["rounds"]

    def prepare(self) -> None:
        """Make its folder, and write down what the run itself does not know of the sweep.

        Raises
        ------
        SettingsError
            If the folder holds a run of another config, or with another number of nodes.
        """
        folder = RunFolder.at(self.folder)
        begun = folder.config.is_file()
        if begun:
            found = json.loads(folder.config.read_text(encoding="utf-8"))
            found["nodes"] = folder.about().get("nodes")  # None if nothing says so
            for key, value in {**self.config, "nodes": self.nodes}.items():
                if key not in OWN and found.get(key) not in (value, None):
                    raise SettingsError(
                        f"{self.folder}: holds a run with {key} = {found[key]!r}, wanted "
                        f"{value!r}: move it away, or choose another --output"
                    )
        if not (begun and folder.command.is_file()):
            about: dict[str, Any] = {"method": self.method, "nodes": self.nodes, "commands": []}
            about |= {} if self.part is None else {"part": self.part}
            folder.write_command(about)


def plan(file: Path, output: Path, overrides: Mapping[str, Any]) -> list[PlannedRun]:
    """Return the runs that a sweep's file describes, in the order in which to run them.

    Parameters
    ----------
    file : Path
        TOML: ``methods`` (names of presets), ``seeds``, ``nodes``; ``[config]``, the run config of
        all; ``[grid]``, lists of values of which every combination is run; ``[method.NAME]``, what
        a method has beside its preset (run config keys, ``nodes``, ``parts``).
    output : Path
        Where the run folders go: METHOD/[OPTIONS/]seed-N[/part-N].
    overrides : Mapping[str, Any]
        Run config keys that come before those of ``[config]``; none that a method or ``[grid]``
        sets, since an override that reaches some of the runs makes their comparison unfair.

    Raises
    ------
    SettingsError
        Naming the file and what is wrong with it.
    """
    table = methods.in_order(
        {"methods": [], "seeds": [0], "nodes": 0, "config": {}, "grid": {}, "method": {}}
        | methods.read(file),
        FILE,
        file,
    )
    chosen = [_method(name, table["method"], file) for name in table["methods"]]
    if unused := table["method"].keys() - {method.name for method in chosen}:
        raise SettingsError(f"{file}: found [method.{min(unused)}], which is none of its methods")
    set_by = {method.name: method.keys for method in chosen} | {"[grid]": table["grid"].keys()}
    _refuse_own(set_by | {"[config]": table["config"], "--set": overrides}, file)
    _refuse_partial(overrides, set_by, file)

    known = defaults()
    base = known | methods.checked(table["config"], known, file)
    base |= methods.checked(overrides, known, "--set")
    runs: dict[Path, PlannedRun] = {}
    for seed, options in itertools.product(table["seeds"], _combinations(table["grid"], file)):
        changed = methods.checked(options, known, file)
        for method in chosen:
            for part, config in enumerate(_configs(method, base, changed, seed)):
                _check(config, method, file)
                number = None if len(method.parts) == 1 else part
                name = _name(method.name, options, seed, number)
                if name in runs:
                    raise SettingsError(f"{file}: found {name} twice, wanted each run once")
                nodes = method.nodes or table["nodes"]
                runs[name] = PlannedRun(output.resolve() / name, method.name, number, nodes, config)
    return list(runs.values())


def _method(name: str, tables: Mapping[str, Config], file: Path) -> Preset:
    try:
        method = methods.load(name)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    return method.changed(tables.get(name, {}), f"{file}: [method.{name}]")


def _configs(method: Preset, base: Config, options: Config, seed: int) -> Iterator[Config]:
    """Yield the whole run config of each of a method's parts."""
    for part in method.parts:
        config = base | method.config | options | part | {"seed": seed}
        if config["data-path"]:  # as the run itself writes it down
            config["data-path"] = str(Path(config["data-path"]).expanduser().resolve())
        yield config


def _refuse_own(set_by: Mapping[str, Iterable[str]], file: Path) -> None:
    """Refuse keys that the sweep itself sets, wherever they stand."""
    for place, keys in set_by.items():
        for key in sorted(OWN.keys() & keys):
            raise SettingsError(f"{file}: {key}: found in {place}, but {OWN[key]}")


def _refuse_partial(
    overrides: Mapping[str, Any], set_by: Mapping[str, Iterable[str]], file: Path
) -> None:
    """Refuse overrides of what not all runs take from ``[config]``."""
    for key, value in overrides.items():
        if own := [name for name, keys in set_by.items() if key in keys]:
            have = "has its" if len(own) == 1 else "have their"
            raise SettingsError(
                f"{key}: found --set {key}={value}, but {' and '.join(own)} {have} own in {file}"
            )


def _check(config: Config, method: Preset, file: Path) -> None:
    """Refuse what would fail, or mean something else, only when the run starts: hours later."""
    try:
        settings = Settings.from_run_config(config)
        selector(settings.select)
        registry.find(settings.strategy)
        if exits := _num_exits(settings.model):
            capacity_of(settings.capacities, 0, 1, exits)
            if method.exits not in (0, exits):
                raise SettingsError(
                    f"model: found {settings.model!r} with {exits} exits, wanted {method.exits}, "
                    f"or select or parts for so many in [method.{method.name}]"
                )
    except ValueError as error:
        raise SettingsError(f"{file}: {method.name}: {error}") from error


def _num_exits(model: str) -> int | None:
    """Return how many exits a preset or a saved model has; None for what is no such thing."""
    if model in PRESETS:
        return preset(model).num_exits
    file = Path(model).expanduser() / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("model_type") != EarlyExitConfig.model_type:
        return None
    saved: EarlyExitConfig = EarlyExitConfig.from_dict(found)
    return saved.num_exits


def _combinations(grid: Mapping[str, Any], file: Path) -> Iterator[Config]:
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{file}: {key}: found {values!r}, wanted a list of values")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _name(method: str, options: Config, seed: int, part: int | None) -> Path:
    named = ",".join(f"{key}={value}".replace("/", "_") for key, value in options.items())
    return Path(method, named, f"seed-{seed}", "" if part is None else f"part-{part}")
