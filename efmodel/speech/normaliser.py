"""What is done to a text before it is written in a vocabulary's characters.

A run, and each model that it saves, has one normaliser: training texts, references and hypotheses
all pass through it. It needs neither torch nor transformers: a node counts its characters with it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from efmodel.speech import languages
from efmodel.speech.numbers import in_words

APOSTROPHES = "'\u2019\u2018\u201b\u02bc\u02bb\u0060\u00b4\uff07"
SEPARATORS = "-\u2010\u2011\u2012\u2013\u2014_/"
# Marks of what is no speech: <unk>, </s>, [laughter], {NOISE}.
TAG = re.compile(r"</?\w[^<>]*>|\[[^\[\]]*\]|\{\w+\}")
# Characters of letters' categories that are no letters: the stroke that stretches Arabic words, the
# grapheme joiner, variation selectors.
NO_LETTERS = {"\u0640", "\u034f", "\u180b", "\u180c", "\u180d", *map(chr, range(0xFE00, 0xFE10))}
# Scripts that put no spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
_SEPARATED = dict.fromkeys(map(ord, SEPARATORS), " ")
_BETWEEN = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")
# The marks of these scripts: they belong to the character before them.
_MARKS = "".join(
    c
    for c in map(chr, [*range(0xE00, 0x1800), 0x3099, 0x309A])
    if unicodedata.category(c)[0] == "M"
)
_UNIT = re.compile(f"[{UNSPACED}][{_MARKS}]*")
ARABIC_MARKS = re.compile("[\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")
HEBREW_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")

PERSIAN = str.maketrans("\u064a\u0643", "\u06cc\u06a9")  # Arabic codes of Persian yeh and keheh

# Rules of some languages: marks that everyday writing leaves out, letters with two codes.
RULES: dict[str, Callable[[str], str]] = {
    "": lambda text: text,
    "arabic": lambda text: ARABIC_MARKS.sub("", text),
    "persian": lambda text: ARABIC_MARKS.sub("", text).translate(PERSIAN),
    "hebrew": lambda text: HEBREW_MARKS.sub("", text),
}


@dataclass(frozen=True)
class Normaliser:
    """How texts are normalised.

    Attributes
    ----------
    language : str
        The code of a language whose rules apply; empty for rules that suit every language.
    case : {"fold", "keep"}
        Whether capital and small letters are the same.
    numbers : {"words", "digits", "drop"}
        What becomes of digits: words (where the language is known), characters of the vocabulary,
        or nothing.
    """

    language: str = ""
    case: str = "fold"
    numbers: str = "words"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Normaliser":
        """Return the normaliser that a saved tokenizer, or the run config, describes.

        Other keys are ignored; missing ones have their defaults.
        """
        known = cls.__dataclass_fields__
        return cls(**{name: str(value) for name, value in fields.items() if name in known})

    def fields(self) -> dict[str, str]:
        """Return what differs from the default normaliser, for ``of``."""
        default = Normaliser()
        return {
            name: value for name, value in asdict(self).items() if value != getattr(default, name)
        }

    def __str__(self) -> str:
        """Return what it does in words."""
        language = languages.get(self.language) if self.language else None
        name = f"{language.name} ({self.language})" if language else "any language"
        numbers = "numbers are dropped" if self.numbers == "drop" else "numbers stay digits"
        if language and language.numbers and self.numbers == "words":
            numbers = "numbers, times and currencies are words"
        case = "capital and small letters " + ("differ" if self.case == "keep" else "are the same")
        return f"{name}: {numbers}, {case}"

    def prepared(self, text: str) -> tuple[str, Counter[str]]:
        """Return a text without tags, its numbers and signs as words, and what was removed."""
        removed = Counter(TAG.findall(text))
        text = unicodedata.normalize("NFC", TAG.sub(" ", text))
        if self.numbers == "drop":
            removed.update(re.findall(r"\d", text))
            text = re.sub(r"\d", " ", text)
        if self.language:
            language = languages.get(self.language)
            if language.numbers and self.numbers == "words":
                text = in_words(text, language)
            if language.rules in RULES:
                text = unicodedata.normalize("NFC", RULES[language.rules](text))
        return text.translate(_SEPARATED), removed

    def lower(self, text: str) -> str:
        """Return a text in small letters."""
        if self.language and languages.get(self.language).rules == "turkic":
            text = text.replace("\u0130", "i").replace("I", "\u0131")
        return text.lower().replace("i\u0307", "i")  # of a capital I with dot


def is_letter(character: str) -> bool:
    """Return whether a character can be part of a vocabulary: a letter, a mark, or a digit.

    Characters that Unicode spells with others, such as ligatures and full-width letters, cannot.
    """
    category = unicodedata.category(character)
    return (
        (category[0] == "L" or category in ("Mn", "Mc", "Nd"))
        and character not in NO_LETTERS
        and not unicodedata.decomposition(character).startswith("<")
    )


def without_false_spaces(text: str) -> str:
    """Return a text without spaces inside scripts that have none between words."""
    return _BETWEEN.sub("", text)


def in_units(text: str) -> str:
    """Return a text with a space between any two words, for counting word errors.

    A character of a script without spaces, with its marks, counts as a word.
    """
    return " ".join(_UNIT.sub(r" \g<0> ", text).split())
