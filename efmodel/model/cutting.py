"""The owner exit of each tensor: the rule that cutting, sending and averaging share."""

import re
from collections.abc import Iterable, Sequence

_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")
_HEAD = re.compile(r"^exits\.(\d+)\.")


def layer_number(name: str) -> int | None:
    """Return the encoder layer of the tensor ``name``, from 1; None outside the layers."""
    match = _LAYER.match(name)
    return int(match[1]) + 1 if match else None  # encoder.layers counts from 0, exit_layers from 1


def owner_exit(name: str, exit_layers: Sequence[int]) -> int:
    """Return the shallowest exit that needs the tensor ``name``: 1..E, or 0 if every exit does.

    Raises
    ------
    ValueError
        If the name belongs to a layer or a head that the model does not have.
    """
    if match := _HEAD.match(name):
        exit = int(match[1])
        if 1 <= exit <= len(exit_layers):
            return exit
        raise ValueError(f"{name}: found exit {exit}, wanted 1 to {len(exit_layers)}")
    if layer := layer_number(name):
        for exit, last_layer in enumerate(exit_layers, start=1):
            if layer <= last_layer:
                return exit
        raise ValueError(f"{name}: found layer {layer}, wanted 1 to {exit_layers[-1]}")
    return 0


def owner_exits(names: Iterable[str], exit_layers: Sequence[int]) -> dict[str, int]:
    """Return ``{name: owner exit}`` for every name."""
    return {name: owner_exit(name, exit_layers) for name in names}
