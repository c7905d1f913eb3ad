"""The keys of the run config as tables for a terminal."""

from itertools import groupby

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from efmodel.errors import did_you_mean
from efmodel.settings import Key, SettingsError, keys


def find_keys(word: str) -> list[Key]:
    """Return the key of that name, or all keys with the word in their name, topic or meaning.

    Raises
    ------
    SettingsError
        If there is none.
    """
    every_key = keys()
    if word in every_key:
        return [every_key[word]]
    word = word.lower()
    matching = [
        key
        for key in every_key.values()
        if word == key.topic or word in key.name or word in key.meaning.lower()
    ]
    if not matching:
        hint = did_you_mean(word, every_key)
        wanted = "wanted a key of the run config, or a word in its meaning"
        raise SettingsError(f"config: found {word!r}, {wanted}{hint}")
    return matching


def render(chosen: list[Key]) -> RenderableType:
    """Return one key in detail, or a table of several by topic."""
    if len(chosen) == 1:
        return _detail(chosen[0])
    parts: list[RenderableType] = []
    for topic, members in groupby(chosen, key=lambda key: key.topic):
        parts += [Rule(Text(topic, "bold"), align="left"), _table(list(members)), ""]
    return Group(*parts)


def _table(members: list[Key]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, width=30)  # "seconds-per-audio-second = 0.0"
    table.add_column()
    for key in members:
        name = Text.assemble((key.name, "cyan"), f" = {_written(key.default)}")
        table.add_row(name, Group(_meaning(key), *_allowed(key)))
    return table


def _detail(key: Key) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("key", Text(key.name, "cyan"))
    table.add_row("meaning", _meaning(key))
    table.add_row("default", _written(key.default) or "empty")
    table.add_row("allowed", Text(key.allowed))
    table.add_row("topic", key.topic)
    table.add_row("set it", Text(f"ef-asr simulate --set {key.name}=VALUE"))
    return table


def _meaning(key: Key) -> Text:
    return Text(key.meaning.replace("`", ""))


def _allowed(key: Key) -> list[Text]:
    """Return the line about the allowed values; none where any text is allowed."""
    free = key.kind is str and key.check is None
    return [] if free else [Text(f"Allowed: {key.allowed}", "dim")]


def _written(value: object) -> str:
    """Return a value as it is written after ``KEY=``."""
    return str(value).lower() if isinstance(value, bool) else str(value)
