"""The runs of a sweep: every method with every combination of options and every seed."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efmodel.checks import Check
from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.partition import capacity_of
from efmodel.settings import Settings, SettingsError
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy.selection import selector
from simulation import methods
from simulation.clients import check_strategy
from simulation.methods import Method
from simulation.run_config import Config, check_config, defaults

# Run config keys that the sweep itself sets, and why nobody else may.
SET_BY_SWEEP = {
    "seed": "seeds = [...] gives them",
    "output": "--output says where all runs go",
    "resume": "a sweep resumes its runs by itself",
}
# Keys of a sweep's file.
FILE = {
    "methods": methods.list_of(str, "names of methods"),
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
    method : str
        The name of its method.
    part : int or None
        Its place in a method of several runs.
    nodes : int
        Simulated clients; 0 for one per training speaker.
    config : dict
        Its whole run config, without ``output``.
    """

    folder: Path
    method: str
    part: int | None
    nodes: int
    config: Config

    @property
    def name(self) -> str:
        """Its name within the sweep, such as "separate/seed-0/part-1"."""
        parts = self.folder.parts
        return "/".join(parts[len(parts) - parts[::-1].index(self.method) - 1 :])

    def command(self) -> list[str]:
        """Return the arguments of ``ef-asr`` that start it, or resume it."""
        default = defaults()
        changed = {key: value for key, value in self.config.items() if value != default[key]}
        words = ["simulate", "--output", str(self.folder)]
        if self.rounds_done():
            changed["resume"] = str(self.folder)
        words += ["--nodes", str(self.nodes)] if self.nodes else []
        for key, value in sorted(changed.items()):
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        return words

    def rounds_done(self) -> int:
        """Return the number of its finished rounds."""
        return len(read_metrics(RunFolder.at(self.folder).metrics))

    def is_done(self) -> bool:
        """Return whether all its rounds are finished and its report is written."""
        return RunFolder.at(self.folder).is_finished(self.config)

    def prepare(self) -> None:
        """Make its folder, and write its method, part and number of nodes there.

        Raises
        ------
        SettingsError
            If the folder holds a run of another config, or with another number of nodes.
        """
        folder = RunFolder.at(self.folder)
        begun = folder.config.is_file()
        if begun:
            stored = folder.read_config()
            stored["nodes"] = folder.about().get("nodes")  # None if it is not known
            for key, value in {**self.config, "nodes": self.nodes}.items():
                if key not in SET_BY_SWEEP and stored.get(key) not in (value, None):
                    raise SettingsError(
                        f"{self.folder}: holds a run with {key} = {stored[key]!r}, wanted "
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
        TOML: ``methods`` (names), ``seeds``, ``nodes``; ``[config]``, run config keys of all runs;
        ``[grid]``, lists of values of which every combination is run; ``[method.NAME]``, changes
        of one method (run config keys, ``nodes``, ``parts``).
    output : Path
        Where the run folders go: METHOD/[OPTIONS/]seed-N[/part-N].
    overrides : Mapping[str, Any]
        Run config keys in place of those in ``[config]``. Keys that a method or ``[grid]`` sets are
        refused: an override of only some of the runs makes their comparison unfair.

    Raises
    ------
    SettingsError
        Naming the file and the mistake in it.
    """
    table = methods.check_table(
        {"methods": [], "seeds": [0], "nodes": 0, "config": {}, "grid": {}, "method": {}}
        | methods.read(file),
        FILE,
        file,
    )
    chosen = [_method(name, table["method"], file) for name in table["methods"]]
    if unused := table["method"].keys() - {method.name for method in chosen}:
        raise SettingsError(f"{file}: found [method.{min(unused)}], which is none of its methods")
    set_by = {method.name: method.keys for method in chosen} | {"[grid]": table["grid"].keys()}
    _refuse_keys_of_sweep(set_by | {"[config]": table["config"], "--set": overrides}, file)
    _refuse_partial(overrides, set_by, file)

    base = defaults() | check_config(table["config"], file) | check_config(overrides, "--set")
    runs: dict[Path, PlannedRun] = {}
    for seed, options in itertools.product(table["seeds"], _combinations(table["grid"], file)):
        changed = check_config(options, file)
        for method in chosen:
            for part, config in enumerate(_configs(method, base, changed, seed)):
                _check(config, method, file)
                number = None if len(method.parts) == 1 else part
                name = _name(method.name, options, seed, number)
                if name in runs:
                    raise SettingsError(f"{file}: found {name} twice, wanted every run once")
                nodes = method.nodes or table["nodes"]
                runs[name] = PlannedRun(output.resolve() / name, method.name, number, nodes, config)
    return list(runs.values())


def _method(name: str, tables: Mapping[str, Config], file: Path) -> Method:
    try:
        method = methods.load(name)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    return method.changed(tables.get(name, {}), f"{file}: [method.{name}]")


def _configs(method: Method, base: Config, options: Config, seed: int) -> Iterator[Config]:
    """Yield the whole run config of each of a method's parts."""
    for part in method.parts:
        config = base | method.config | options | part | {"seed": seed}
        if config["data-path"]:  # as the run itself writes it down
            config["data-path"] = str(Path(config["data-path"]).expanduser().resolve())
        yield config


def _refuse_keys_of_sweep(set_by: Mapping[str, Iterable[str]], file: Path) -> None:
    """Refuse run config keys that the sweep itself sets."""
    for place, keys in set_by.items():
        for key in sorted(SET_BY_SWEEP.keys() & keys):
            raise SettingsError(f"{file}: {key}: found in {place}, but {SET_BY_SWEEP[key]}")


def _refuse_partial(
    overrides: Mapping[str, Any], set_by: Mapping[str, Iterable[str]], file: Path
) -> None:
    """Refuse overrides of keys that a method or ``[grid]`` sets."""
    for key, value in overrides.items():
        if setters := [name for name, keys in set_by.items() if key in keys]:
            have = "has its" if len(setters) == 1 else "have their"
            raise SettingsError(
                f"{key}: found --set {key}={value}, but {' and '.join(setters)} {have} own in "
                f"{file}"
            )


def _check(config: Config, method: Method, file: Path) -> None:
    """Refuse a run config that would only fail when its run starts, hours later."""
    try:
        settings = Settings.from_run_config(config)
        selector(settings.select)
        check_strategy(settings)
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
    """Return the number of exits of a preset or saved model; None for any other model."""
    if model in PRESETS:
        return preset(model).num_exits
    file = Path(model).expanduser() / "config.json"
    sizes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if sizes.get("model_type") != EarlyExitConfig.model_type:
        return None
    saved: EarlyExitConfig = EarlyExitConfig.from_dict(sizes)
    return saved.num_exits


def _combinations(grid: Mapping[str, Any], file: Path) -> Iterator[Config]:
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{file}: {key}: found {values!r}, wanted a list of values")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _name(method: str, options: Config, seed: int, part: int | None) -> Path:
    changes = ",".join(f"{key}={value}".replace("/", "_") for key, value in options.items())
    return Path(method, changes, f"seed-{seed}", "" if part is None else f"part-{part}")
