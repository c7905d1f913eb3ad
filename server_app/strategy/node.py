"""A node, as the server knows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """What a node answered to its query."""

    id: int
    name: str
    capacity: int
    tag: str = ""
