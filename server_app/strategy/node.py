"""A node: a device, or a simulated client."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A node's answer to its query."""

    id: int
    name: str
    capacity: int
    tag: str = ""
