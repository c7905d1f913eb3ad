"""Select the nodes that may train, as in ``select = "capacity>=2, tag=kitchen"``."""

import operator
import re
from collections.abc import Callable
from typing import Any

from server_app.strategy.node import Node

_CONDITION = re.compile(r"^(capacity|tag|name)\s*(>=|<=|!=|=|>|<)\s*(\S.*)$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "!=": operator.ne,
}


def selector(select: str) -> Callable[[Node], bool]:
    """Return the test that ``select`` describes: all of its conditions, joined by commas, hold.

    Raises
    ------
    ValueError
        If a condition cannot be parsed.
    """
    conditions = [_condition(part.strip()) for part in select.split(",") if part.strip()]
    return lambda node: all(condition(node) for condition in conditions)


def _condition(text: str) -> Callable[[Node], bool]:
    match = _CONDITION.match(text)
    wanted = "wanted conditions such as 'capacity>=2' or 'tag=kitchen', joined by commas"
    if match is None:
        raise ValueError(f"select: found {text!r}, {wanted}")
    key, sign, value = match.groups()
    compare = _COMPARE[sign]
    if key != "capacity":
        if sign not in ("=", "!="):
            raise ValueError(f"select: found {text!r}; {key}s are compared by = and != only")
        return lambda node: compare(getattr(node, key), value)
    if not value.isdigit():
        raise ValueError(f"select: found {text!r}, {wanted}")
    return lambda node: compare(node.capacity, int(value))
