"""What a run asks of a strategy's methods, checked where they return; errors name the class."""

from collections.abc import Iterable, Mapping
from textwrap import shorten

import numpy as np
from flwr.app import Message
from flwr.common import NDArray

from efmodel.errors import UserError


class StrategyError(UserError):
    """A strategy returned, or remembers, what a run cannot use."""


def sent_messages(strategy: object, returned: object) -> list[Message]:
    """Return the messages of ``configure_train`` as a list; it may be a generator.

    Raises
    ------
    StrategyError
        If it returned anything but messages.
    """
    where, wanted = f"{type(strategy).__name__}.configure_train", "wanted messages"
    if not isinstance(returned, Iterable):
        raise StrategyError(f"{where}: found {_shown(returned)}, {wanted}")
    messages = list(returned)
    for message in messages:
        if not isinstance(message, Message):
            raise StrategyError(f"{where}: found {_shown(message)}, {wanted}")
    return messages


def new_value(strategy: object, name: str, returned: object, current: NDArray) -> NDArray:
    """Return what ``step`` made of a tensor, in the tensor's own type.

    Clients are sent it in the next round; what they could not use would look like their fault.

    Parameters
    ----------
    strategy : object
        The strategy whose ``step`` returned it.
    name : str
        The tensor.
    returned : object
        An array, or what numpy can make one of.
    current : NDArray
        The tensor's value before the step; the new one has its shape and type.

    Raises
    ------
    StrategyError
        If it is no array of numbers, has another shape, or holds nan or inf.
    """
    where = f"{type(strategy).__name__}.step: {name}"
    wanted = f"wanted {current.dtype}{list(current.shape)}"
    try:
        values = np.asarray(returned)
    except (TypeError, ValueError, RuntimeError):  # a ragged list, or a tensor on a GPU
        values = np.asarray(None)
    if values.dtype.kind not in "fiu":
        raise StrategyError(f"{where}: found {_shown(returned)}, {wanted}")
    if values.shape != current.shape:
        raise StrategyError(f"{where}: found {values.dtype}{list(values.shape)}, {wanted}")
    with np.errstate(over="ignore"):  # float64 that overflows becomes inf, which is found below
        values = values.astype(current.dtype, copy=False)
    if not np.isfinite(values).all():
        raise StrategyError(f"{where}: found nan or inf, wanted finite numbers")
    return values


def checked_moments(
    strategy: object, moments: Mapping[str, Mapping[str, NDArray]]
) -> dict[str, dict[str, NDArray]]:
    """Return a strategy's moments as a checkpoint keeps them.

    Raises
    ------
    StrategyError
        If they are not ``{kind: {tensor name: array}}``; a kind has no slash.
    """
    where = f"{type(strategy).__name__}.moments"
    if not isinstance(moments, Mapping):
        wanted = "wanted {kind: {tensor name: array}}"
        raise StrategyError(f"{where}: found {_shown(moments)}, {wanted}")
    for kind, tensors in moments.items():
        if not isinstance(kind, str) or "/" in kind:
            raise StrategyError(f"{where}: found the kind {kind!r}, wanted a text without slash")
        if not isinstance(tensors, Mapping):
            wanted = "wanted {tensor name: array}"
            raise StrategyError(f"{where}[{kind!r}]: found {_shown(tensors)}, {wanted}")
        for name, array in tensors.items():
            numbers = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
            if not isinstance(name, str) or not numbers:
                wanted = "wanted a numpy array of numbers"
                raise StrategyError(f"{where}[{kind!r}][{name!r}]: found {_shown(array)}, {wanted}")
    return {kind: dict(tensors) for kind, tensors in moments.items()}


def _shown(value: object) -> str:
    return shorten(repr(value), 60, placeholder=" ...")
