"""Keys of the run config that do not combine."""

from collections.abc import Mapping


def allow_only(limits: Mapping[str, tuple[object, object]], why: str) -> None:
    """Refuse keys that do not combine with what a strategy is asked to do.

    Parameters
    ----------
    limits : Mapping[str, tuple]
        ``{key: (its value, the only value that is allowed)}``.
    why : str
        What does not go with other values, and the reason.

    Raises
    ------
    ValueError
        Naming the first key with another value.
    """
    for key, (value, wanted) in limits.items():
        if value != wanted:
            raise ValueError(f"{key}: found {value!r}, wanted {wanted!r} {why}")
