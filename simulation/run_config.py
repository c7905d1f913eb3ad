"""The run config of a run: defaults, then a method's or a resumed run's keys, then KEY=VALUE."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efmodel.settings import SettingsError, checked, keys
from server_app.run_folder import RunFolder

Config = dict[str, Any]


def defaults() -> Config:
    """Return the run config in the app's pyproject.toml."""
    here = Path(__file__).parent
    for folder in (here.parent, here):  # in a checkout; in an installed wheel, which has a copy
        if (folder / "pyproject.toml").is_file():
            app = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
            return dict(app["tool"]["flwr"]["app"]["config"])
    raise FileNotFoundError(f"found no pyproject.toml near {here}: is ef-asr installed completely?")


def check_config(config: Mapping[str, Any], source: str | Path) -> Config:
    """Return a part of a run config, each value checked and with the type of its key.

    Raises
    ------
    SettingsError
        Naming the source, the key, the value found and what was wanted.
    """
    try:
        return {key: checked(key, value) for key, value in config.items()}
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None


def overridden(overrides: list[str]) -> Config:
    """Return the keys and values of ``KEY=VALUE`` overrides.

    Raises
    ------
    SettingsError
        If an override has no such form, there is no such key, or it does not allow the value.
    """
    changes = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set: found {override!r}, wanted KEY=VALUE")
        try:
            changes[key] = checked(key, _value(key, text))
        except SettingsError as error:
            raise SettingsError(f"--set: {error}") from None
    return changes


def _value(key: str, text: str) -> Any:
    """Return what a text means for a key; the text itself if it is not of the key's type."""
    if key in keys() and keys()[key].kind is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def run_config(overrides: list[str], method: Mapping[str, Any] | None = None) -> Config:
    """Return the app's run config with ``KEY=VALUE`` overrides.

    The keys of a ``method`` come between the defaults and the overrides. A resumed run keeps its
    own config where no override changes it.

    Raises
    ------
    SettingsError
        If an override is not valid.
    RunFolderError
        If the folder to resume holds no run.
    """
    changes = overridden(overrides)
    config = {**defaults(), **(method or {})}
    if changes.get("resume"):
        folder = RunFolder.open(changes["resume"])
        config |= {key: value for key, value in folder.read_config().items() if key in config}
        changes["resume"] = str(folder.path)
    return config | changes


def to_toml(config: Mapping[str, Any]) -> bytes:
    """Return a run config as a TOML file, which carries any text; Flower's KEY=VALUE does not.

    Raises
    ------
    SettingsError
        If a text is none, such as a path whose bytes are not UTF-8.
    """
    lines = []
    for key, value in config.items():
        # TOML writes scalars as JSON does, but for one control character.
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        try:
            lines.append(f"{key} = {text}\n".encode())
        except UnicodeEncodeError:
            raise SettingsError(f"{key}: found {value!r}, wanted text in UTF-8") from None
    return b"".join(lines)
