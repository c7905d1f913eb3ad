"""Which files are to train on and which to test on, by the names that people give them."""

import re
from collections.abc import Iterable
from pathlib import Path

from efmodel.speech.layouts.layout import Halves

WORDS = {
    "train": {"train", "training"},
    "test": {"test", "testing", "eval", "evaluation"},
    "dev": {"dev", "valid", "validation", "val"},
}


def half_of(name: str) -> str:
    """Return "train", "test" or "dev", or an empty string.

    ``train-clean-100``, ``cuts_test.jsonl.gz`` and ``Train`` say it with one of their words.
    """
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((half for half, names in WORDS.items() if words & names), "")


def by_half(parts: Iterable[Path], folder: Path) -> Halves:
    """Sort files or folders below ``folder`` by the half that their path names.

    The last name in the path that says a half counts. Parts whose path says none are to train on
    if none is named "train", else they are not used. Those named "dev" are to test on if none is
    named "test", else they are not used.
    """
    named: dict[str, list[Path]] = {}
    for part in sorted(parts):
        names = reversed(part.relative_to(folder).parts)  # the folder's own name says nothing
        half = next(filter(None, map(half_of, names)), "")
        named.setdefault(half, []).append(part)
    train = named.get("train") or named.get("") or []
    test = named.get("test") or named.get("dev") or []
    if not train and "test" not in named:  # "dev" alone
        train, test = test, []
    return {half: found for half, found in (("train", train), ("test", test)) if found}
