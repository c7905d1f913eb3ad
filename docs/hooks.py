"""A mkdocs hook: writes the run config's tables into configuration.md when the site is built."""

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from efmodel.settings import Settings

PLACEHOLDER = "<!-- settings -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the placeholder on the page ``configuration.md`` by the tables."""
    if page.file.src_uri != "configuration.md":
        return markdown
    if PLACEHOLDER not in markdown:
        raise ValueError(f"configuration.md: found no {PLACEHOLDER}, wanted it once")
    return markdown.replace(PLACEHOLDER, tables())


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Remove the roles of reStructuredText (``:class:``) that docstrings have for other tools."""
    return re.sub(r":(?:class|func|meth|mod):\s*(?=<)", "", html)


def tables() -> str:
    """Return a Markdown table of keys for each topic, in the order of the settings."""
    topics: dict[str, list[Field[Any]]] = {}
    for field in fields(Settings):
        topics.setdefault(field.metadata.get("topic", ""), []).append(field)
    return "\n\n".join(_table(topic, keys) for topic, keys in topics.items())


def _table(topic: str, keys: list[Field[Any]]) -> str:
    lines = [f"### {topic[0].upper()}{topic[1:]}", ""] if topic else []
    lines += ["| key | default | meaning | values |", "|---|---|---|---|"]
    for field in keys:
        cells = [_name(field.name), _default(field.default), field.metadata["meaning"]]
        lines.append("| " + " | ".join([*cells, _values(field)]) + " |")
    return "\n".join(lines)


def _name(field: str) -> str:
    """Return the key's name with an anchor, so that other pages can point at it."""
    key = field.replace("_", "-")
    return f'<span id="{key}"></span>`{key}`'


def _default(value: object) -> str:
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: Field[Any]) -> str:
    """Return the type of a key's value, and the check that it must pass."""
    metadata: Mapping[str, Any] = field.metadata
    kinds = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}
    check = metadata.get("check")
    wanted = check.wanted.replace("|", "\\|") if check is not None else ""
    return wanted or kinds[type(field.default)]
