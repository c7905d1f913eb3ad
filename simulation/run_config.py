"""A run config: the app's defaults, what a preset or a resumed run has of its own, KEY=VALUE."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efmodel.settings import SettingsError
from server_app.run_folder import RunFolder

Config = dict[str, Any]


def defaults() -> Config:
    """Return the run config that the app's pyproject.toml holds."""
    here = Path(__file__).parent
    for folder in (here.parent, here):  # a checkout; a wheel, which carries a copy
        if (folder / "pyproject.toml").is_file():
            app = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
            return dict(app["tool"]["flwr"]["app"]["config"])
    raise FileNotFoundError(f"found no pyproject.toml near {here}: is ef-asr installed whole?")


def overridden(overrides: list[str]) -> Config:
    """Return what ``KEY=VALUE`` overrides say, each value typed as its key's default is.

    Raises
    ------
    SettingsError
        If there is no such key, or the value is not of the key's type.
    """
    known, changes = defaults(), {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or key not in known:
            wanted = f"KEY=VALUE, with KEY one of {', '.join(known)}"
            raise SettingsError(f"--set: found {override!r}, wanted {wanted}")
        kind = type(known[key])
        try:
            changes[key] = value if kind is str else json.loads(value)
        except ValueError:
            raise SettingsError(f"{key}: found {value!r}, wanted {kind.__name__}") from None
    return changes


def run_config(overrides: list[str], preset: Mapping[str, Any] | None = None) -> Config:
    """Return the app's run config with ``KEY=VALUE`` overrides.

    A ``preset``'s keys stand between the defaults and the overrides. A run that is resumed keeps
    its own config where no override changes it.

    Raises
    ------
    SettingsError
        If an override is not in order.
    FileNotFoundError
        If the folder to resume holds no run.
    """
    changes = overridden(overrides)
    config = {**defaults(), **(preset or {})}
    if changes.get("resume"):
        folder = RunFolder("", changes["resume"])
        own = json.loads(folder.config.read_text(encoding="utf-8"))
        config |= {key: value for key, value in own.items() if key in config}
        changes["resume"] = str(folder.path)
    return config | changes
