"""Experiments by name: what each method changes in the run config, as small TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efmodel.settings import SettingsError
from simulation.run_config import Config, defaults

FOLDER = Path(__file__).with_name("presets")


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
    """

    name: str
    config: Config
    parts: tuple[Config, ...] = ({},)
    nodes: int = 0

    def changed(self, changes: Mapping[str, Any], source: Path) -> "Preset":
        """Return the preset with an experiment's changes: its ``nodes``, ``parts``, config keys."""
        own = dict(changes)
        parts, nodes = own.pop("parts", self.parts), own.pop("nodes", self.nodes)
        return _preset(self.name, {"config": {**self.config, **own}, "parts": parts,
                                   "nodes": nodes}, source)  # fmt: skip


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


def checked(config: Mapping[str, Any], known: Mapping[str, Any], source: Path) -> Config:
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


def _preset(name: str, table: Config, source: Path) -> Preset:
    if strange := sorted(table.keys() - {"config", "parts", "nodes"}):
        raise SettingsError(f"{source}: found {strange[0]!r}, wanted config, parts or nodes")
    known = defaults()
    parts = tuple(checked(part, known, source) for part in table.get("parts", [{}]))
    nodes = table.get("nodes", 0)
    if type(nodes) is not int or nodes < 0 or not parts:
        raise SettingsError(f"{source}: found nodes {nodes!r} and {len(parts)} parts")
    return Preset(name, checked(table.get("config", {}), known, source), parts, nodes)
