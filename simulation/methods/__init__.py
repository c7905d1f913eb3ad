"""The methods of the experiments: what each one changes in the run config, as small TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efmodel.checks import Check
from efmodel.errors import did_you_mean
from efmodel.settings import SettingsError
from simulation.run_config import Config, check_config

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Method:
    """A method of the experiments.

    Attributes
    ----------
    name : str
        Such as "hetero".
    config : dict
        Run config keys that it sets.
    parts : tuple of dict
        Run config keys of each run that it consists of; most methods are one run.
    nodes : int
        Simulated clients; 0 for as many as the experiment has.
    exits : int
        Exits of the model that its ``select`` or ``parts`` fit; 0 for any number.
    """

    name: str
    config: Config
    parts: tuple[Config, ...] = ({},)
    nodes: int = 0
    exits: int = 0

    @property
    def keys(self) -> set[str]:
        """Run config keys that it sets, itself or in a part."""
        return set(self.config).union(*self.parts)

    def changed(self, changes: Mapping[str, Any], source: str | Path) -> "Method":
        """Return the method with an experiment's changes: ``nodes``, ``parts``, run config keys."""
        config = dict(changes)
        table = {
            "parts": config.pop("parts", list(self.parts)),
            "nodes": config.pop("nodes", self.nodes),
            "exits": 0 if {"select", "parts"} & changes.keys() else self.exits,
            "config": {**self.config, **config},
        }
        return _method(self.name, table, source)


def names() -> list[str]:
    """Return the names of all methods."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Method:
    """Return the method of that name.

    Raises
    ------
    SettingsError
        If there is none, or its file is not valid.
    """
    if name not in names():
        hint = did_you_mean(name, names())
        raise SettingsError(f"preset: found {name!r}, wanted one of {', '.join(names())}{hint}")
    path = FOLDER / f"{name}.toml"
    return _method(name, read(path), path)


def read(path: Path) -> Config:
    """Return the content of a TOML file.

    Raises
    ------
    SettingsError
        If there is no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def list_of(kind: type, what: str) -> Check:
    """Demand a list that is not empty, of values of one type."""
    return Check(
        lambda values: (
            isinstance(values, list)
            and bool(values)
            and all(type(value) is kind for value in values)
        ),
        f"a list of {what}",
    )


TABLE = Check(lambda value: isinstance(value, dict), "a table")
COUNT = Check(lambda value: type(value) is int and value >= 0, "a whole number from 0")
TABLES = list_of(dict, "tables")
FILE = {"config": TABLE, "parts": TABLES, "nodes": COUNT, "exits": COUNT}


def check_table(table: Config, wanted: Mapping[str, Check], source: str | Path) -> Config:
    """Return a file's table if all its keys are among the ``wanted`` and fulfil their checks.

    Raises
    ------
    SettingsError
        Naming the source, the key, the value found and what was wanted.
    """
    for key, value in table.items():
        if key not in wanted:
            hint = did_you_mean(key, wanted)
            raise SettingsError(f"{source}: found {key!r}, wanted {', '.join(wanted)}{hint}")
        if not wanted[key].holds(value):
            raise SettingsError(f"{source}: {key}: {wanted[key].complaint(value)}")
    return table


def _method(name: str, table: Config, source: str | Path) -> Method:
    default: Config = {"config": {}, "parts": [{}], "nodes": 0, "exits": 0}
    table = default | check_table(table, FILE, source)
    parts = tuple(check_config(part, source) for part in table["parts"])
    config = check_config(table["config"], source)
    return Method(name, config, parts, table["nodes"], table["exits"])
