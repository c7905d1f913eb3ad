"""The languages that texts can be written and normalised in: letters, numbers, signs.

The facts stand in ``languages.json``, with their source. Nothing here loads torch.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from efmodel.errors import UserError, did_you_mean

FILE = Path(__file__).with_name("languages.json")
RANGE = re.compile("(.)-(.)")


class LanguageError(UserError):
    """A language that the program does not know."""


@dataclass(frozen=True)
class Language:
    """A language, and how its texts are normalised.

    Attributes
    ----------
    code, name : str
        Such as "de" and "German".
    letters : str
        Single letters, and ranges such as "a-z", between spaces.
    charset : tuple of str
        Of a language with thousands of characters: an encoding of Python's, and the first and last
        code (hexadecimal) of its common characters; empty for other languages.
    numbers : str
        The language's code in num2words, "zh" for Chinese numerals; empty if numbers cannot be
        written as words.
    group, decimal, point : str
        What stands between groups of three digits and before decimals, and the word for it.
    years : bool
        Whether 1999 is read "nineteen ninety-nine".
    ordinals : str
        Regular expression of what follows a number and makes it an ordinal.
    inflected : str
        Regular expression of words after which an ordinal ends in "n" (German).
    clock, hour, zero, clock_word : str
        How 14:30, 14:00 and the zero of 14:05 are read, and the word that may follow a time.
    signs : Mapping
        How "%", "&" and others are read; "{}" is the number, "{one|few|many}" a Slavic plural.
    scales : str
        Regular expression of words such as "million", which come between number and currency.
    currencies : Mapping
        The singular and the plural, or three Slavic forms, of each sign.
    rules : str
        Further rules, see ``normaliser.RULES`` and ``Normaliser.lower``.
    """

    code: str
    name: str
    letters: str
    charset: tuple[str, ...] = ()
    numbers: str = ""
    group: str = ","
    decimal: str = "."
    point: str = ""
    years: bool = False
    ordinals: str = ""
    inflected: str = ""
    clock: str = "{h} {m}"
    hour: str = "{h}"
    zero: str = ""
    clock_word: str = ""
    signs: Mapping[str, str] = field(default_factory=dict)
    scales: str = ""
    currencies: Mapping[str, list[str]] = field(default_factory=dict)
    rules: str = ""

    def alphabet(self) -> frozenset[str]:
        """Return the small letters of the language, and its apostrophe if it has one."""
        letters: set[str] = set(_charset(*self.charset)) if self.charset else set()
        for part in self.letters.split():
            ends = RANGE.fullmatch(part)
            letters |= set(map(chr, range(ord(ends[1]), ord(ends[2]) + 1)) if ends else part)
        return frozenset(letters)


def _charset(encoding: str, first: str, last: str) -> list[str]:
    """Return the characters whose codes of two bytes lie between two of them."""
    low, high = bytes.fromhex(first), bytes.fromhex(last)
    codes = (number.to_bytes(2) for number in range(int(first, 16), int(last, 16) + 1))
    decoded = (code.decode(encoding, errors="ignore") for code in codes if low <= code <= high)
    return [text for text in decoded if len(text) == 1 and not text.isascii()]


@cache
def known() -> Mapping[str, Language]:
    """Return every language by its code."""
    table: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["languages"]
    return {
        code: Language(code, **{**facts, "charset": tuple(facts.get("charset", ()))})
        for code, facts in table.items()
    }


def nearest(code: str) -> str:
    """Return a code that is known: the code itself, or that without its country; else empty."""
    bare = code.replace("_", "-").split("-")[0]
    return next((each for each in (code, bare) if each in known()), "")


def get(code: str) -> Language:
    """Return a language.

    Raises
    ------
    LanguageError
        If it is not known.
    """
    if code not in known():
        hint = did_you_mean(code, known())
        raise LanguageError(f"language: found {code!r}, wanted one of {', '.join(known())}{hint}")
    return known()[code]
