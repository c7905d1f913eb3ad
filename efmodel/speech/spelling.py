"""Write texts in the characters of a vocabulary."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from efmodel.speech.normaliser import APOSTROPHES, Normaliser, is_letter, without_false_spaces

METASPACE = "\u2581"  # starts the first piece of a word
# Unicode does not decompose stroked letters and some ligatures, but its names tell: "LATIN SMALL
# LETTER L WITH STROKE", "LATIN SMALL LIGATURE OE".
LATIN_NAME = re.compile(r"LATIN (?:SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .*)?")
LATIN_SPELLINGS = {"\u00f0": "d", "\u00fe": "th", "\u014b": "ng"}  # eth, thorn, eng


@dataclass
class Spelt:
    """A text in the characters of a vocabulary, and what that changed.

    Attributes
    ----------
    words : str
        The text; a single space between words.
    dropped : Counter
        Tags, and characters that have no spelling in the vocabulary.
    respelt : Counter
        Letters that are written with others: without their accent, as two letters.
    """

    words: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    respelt: Counter[str] = field(default_factory=Counter)


class Spelling:
    """Writes texts in the characters of a vocabulary.

    Parameters
    ----------
    characters : Iterable of str, optional
        The vocabulary's single characters, without the one that stands between words; by default
        every letter there is.
    normaliser : Normaliser
        What is done to a text before.
    """

    def __init__(
        self, characters: Iterable[str] | None = None, normaliser: Normaliser | None = None
    ) -> None:
        self.characters = None if characters is None else frozenset(characters)
        self.normaliser = normaliser or Normaliser()
        known = self.characters or frozenset()
        self._change_case = self._case()
        self._apostrophe = next((c for c in APOSTROPHES if c in known), "'")
        self._apostrophes = dict.fromkeys(map(ord, APOSTROPHES), self._apostrophe)

    @classmethod
    def of_description(cls, description: str) -> "Spelling":
        """Return the spelling of a tokenizer that ``vocabulary.to_json`` describes.

        The tokenizer itself would take transformers, seconds of imports.
        """
        fields: dict[str, Any] = json.loads(description)
        normaliser = Normaliser.of(fields.get("normaliser", {}))
        if "definition" in fields:
            tokens = json.loads(fields["definition"])["model"]["vocab"]
            tokens = dict(tokens) if isinstance(tokens, list) else tokens
            return cls(single_characters(tokens, METASPACE), normaliser)
        boundary = str(fields["word_delimiter_token"])
        return cls(single_characters(fields["vocabulary"], boundary), normaliser)

    def spell(self, text: str) -> Spelt:
        """Return a text in the vocabulary's characters, and what was dropped or respelt.

        A letter that the vocabulary lacks is spelt with those that it has: without its accent or
        stroke, a ligature or sharp s as two letters. Punctuation and hyphens separate words;
        apostrophes do not, and become the one that the vocabulary has. Tags such as ``<unk>`` and
        ``[laughter]`` are no speech.
        """
        prepared, removed = self.normaliser.prepared(text)
        spelt = Spelt(dropped=removed)
        prepared = self._change_case(prepared.translate(self._apostrophes))
        kept: list[str] = []
        if all(character.isspace() or self._has(character) for character in set(prepared)):
            kept, prepared = [prepared], ""
        for character in prepared:
            if character.isspace():
                kept.append(" ")
            elif self._has(character):
                kept.append(character)
            elif spelling := self._spelling(character):
                kept.append(spelling)
                if is_letter(character) and spelling.casefold() != character.casefold():
                    spelt.respelt[character] += 1
            else:
                spelt.dropped[character] += 1
                if unicodedata.category(character)[0] in "PS" and character != self._apostrophe:
                    kept.append(" ")  # "Well...I" are two words
        spelt.words = without_false_spaces(" ".join("".join(kept).split()))
        return spelt

    def _has(self, character: str) -> bool:
        if self.characters is None:
            return is_letter(character) or character == self._apostrophe
        return character in self.characters

    def _case(self) -> Callable[[str], str]:
        """Return the function that gives a text the case of most of the vocabulary's letters."""
        if self.normaliser.case == "keep":
            return lambda text: text
        known = self.characters or frozenset()
        if sum(map(str.isupper, known)) <= sum(map(str.islower, known)):
            return self.normaliser.lower
        # A sharp s stays one letter here: the vocabulary may have it.
        return lambda text: "".join(c.upper() if len(c.upper()) == 1 else c for c in text)

    def _spelling(self, character: str) -> str:
        """Return how to write a character with those of the vocabulary; empty if it cannot be."""
        for spelling in _spellings(character):
            for cased in (self._change_case(spelling), spelling):
                if cased and all(map(self._has, cased)):
                    return cased
        return ""


def single_characters(tokens: Iterable[str], boundary: str) -> frozenset[str]:
    """Return the single characters among a vocabulary's tokens, without the boundary of words."""
    return frozenset(token for token in tokens if len(token) == 1) - {boundary}


def _spellings(character: str) -> Iterator[str]:
    """Yield other ways to write a character, the closest first."""
    yield character.swapcase()
    compatible = unicodedata.normalize("NFKC", character)  # full width, ligatures such as "fi"
    yield compatible
    parts = unicodedata.normalize("NFKD", compatible)
    bare = "".join(part for part in parts if not unicodedata.combining(part))  # without accents
    yield bare
    yield "".join(map(_plain_latin, bare))


def _plain_latin(character: str) -> str:
    """Return a Latin letter without strokes, a ligature or sharp s as its two letters."""
    folded = character.casefold()
    if folded in LATIN_SPELLINGS:
        return LATIN_SPELLINGS[folded]
    name = LATIN_NAME.fullmatch(unicodedata.name(character, ""))
    return name[1] if name else folded
