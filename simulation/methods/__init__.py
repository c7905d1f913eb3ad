"""Experiments by name: what each method changes in the run config, as small TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efmodel.settings import Check, SettingsError
from simulation.run_config import Config, defaults

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """A method of the experiments.

    Attributes
    ----------
    name : str
        Such as "hetero".
    config : dict
        Keys of the run config that it sets.
    parts : tuple of dict
        Further keys of each of the runs that make it up together; one run of none, mostly.
    nodes : int
        Simulated clients; 0 for as many as the experiment has.
    exits : int
        Exits of the model that its ``select`` or ``parts`` are written for; 0 for any number.
    """

    name: str
    config: Config
    parts: tuple[Config, ...] = ({},)
    nodes: int = 0
    exits: int = 0

    @property
    def keys(self) -> set[str]:
        """Keys of the run config that it sets, or a part of it."""
        return set(self.config).union(*self.parts)

    def changed(self, changes: Mapping[str, Any], source: str | Path) -> "Preset":
        """Return the preset with an experiment's changes: its ``nodes``, ``parts``, config keys."""
        own = dict(changes)
        table = {
            "parts": own.pop("parts", list(self.parts)),
            "nodes": own.pop("nodes", self.nodes),
            "exits": 0 if {"select", "parts"} & changes.keys() else self.exits,
            "config": {**self.config, **own},
        }
        return _preset(self.name, table, source)


def names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Preset:
    """Return a preset.

    Raises
    ------
    SettingsError
        If there is none of that name, or its file is not in order.
    """
    if name not in names():
        raise SettingsError(f"preset: found {name!r}, wanted one of {', '.join(names())}")
    path = FOLDER / f"{name}.toml"
    return _preset(name, read(path), path)


def read(path: Path) -> Config:
    """Return what a TOML file holds.

    Raises
    ------
    SettingsError
        If it is not there, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def list_of(kind: type, what: str) -> Check:
    """Demand a list that is not empty, of values of one type."""
    return Check(
        lambda value: (
            isinstance(value, list) and bool(value) and all(type(each) is kind for each in value)
        ),
        f"a list of {what}",
    )


TABLE = Check(lambda value: isinstance(value, dict), "a table")
COUNT = Check(lambda value: type(value) is int and value >= 0, "a whole number from 0")


def in_order(table: Config, wanted: Mapping[str, Check], source: str | Path) -> Config:
    """Return the table, if it has no keys but the ``wanted`` and their values are as wanted.

    Raises
    ------
    SettingsError
        Naming the source, the key, the value found and what was wanted.
    """
    for key, value in table.items():
        if key not in wanted:
            raise SettingsError(f"{source}: found {key!r}, wanted {', '.join(wanted)}")
        if not wanted[key].holds(value):
            raise SettingsError(f"{source}: {key}: found {value!r}, wanted {wanted[key].wanted}")
    return table


def checked(config: Mapping[str, Any], known: Mapping[str, Any], source: str | Path) -> Config:
    """Return the config, its values of the types that the ``known`` run config has.

    Raises
    ------
    SettingsError
        Naming the file, the key, the value found and what was wanted.
    """
    typed = {}
    for key, value in config.items():
        if key not in known:
            raise SettingsError(f"{source}: found a key {key!r}, which no run config has")
        kind = type(known[key])
        typed[key] = float(value) if kind is float and type(value) is int else value
        if type(typed[key]) is not kind:
            raise SettingsError(f"{source}: {key}: found {value!r}, wanted {kind.__name__}")
    return typed


def _preset(name: str, table: Config, source: str | Path) -> Preset:
    wanted = {"config": TABLE, "parts": list_of(dict, "tables"), "nodes": COUNT, "exits": COUNT}
    table = {"config": {}, "parts": [{}], "nodes": 0, "exits": 0} | in_order(table, wanted, source)
    known = defaults()
    parts = tuple(checked(part, known, source) for part in table["parts"])
    config = checked(table["config"], known, source)
    return Preset(name, config, parts, table["nodes"], table["exits"])
