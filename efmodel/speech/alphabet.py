"""The characters that texts use: counted by each node, chosen by the server.

``vocabulary = auto`` builds a model's vocabulary from them. It needs neither torch nor
transformers, since a node counts them when it answers a query.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple

from efmodel.speech import languages
from efmodel.speech.normaliser import Normaliser, is_letter
from efmodel.speech.spelling import Spelling

AUTO = "auto"
WANTED = (
    "auto, a language such as de, characters:abc..., bpe:FILE:SIZE, or the path of a file with "
    "characters or a tokenizer"
)
# A letter with accent that is rarer than this among all letters, such as in "caf\u00e9" in English
# texts, is spelt without it: a head could not learn it. French has 2 in 10,000 of its rarest.
RARE = 1 / 20_000
TOO_MANY_LOST = 0.01  # share of lost letters that a run warns about


class Source(NamedTuple):
    """What the run config's ``vocabulary`` names: its kind, and a code, characters, or a file."""

    kind: str  # "auto", "language", "characters", "bpe" or "file"
    value: str = ""
    size: int = 0  # pieces of "bpe"

    def absolute(self) -> str:
        """Return the value of ``vocabulary`` with the whole path of a file, for any process."""
        kind, value, size = self
        path = str(Path(value).expanduser().resolve())
        forms = {AUTO: AUTO, "language": value, "characters": f"characters:{value}"}
        return forms.get(kind, path if kind == "file" else f"bpe:{path}:{size}")


def source(vocabulary: str) -> Source:
    """Return what the run config's ``vocabulary`` names.

    Raises
    ------
    ValueError
        If it has none of the forms.
    """
    kind, _, value = vocabulary.partition(":")
    if vocabulary == AUTO:
        return Source(AUTO)
    if vocabulary in languages.known():
        return Source("language", vocabulary)
    if kind == "characters" and value.strip():
        return Source(kind, value)
    if kind == "bpe":
        file, _, size = value.rpartition(":")
        if file and size.isdecimal() and int(size) >= 3:
            return Source(kind, file, int(size))
    elif "/" in vocabulary or vocabulary.endswith((".json", ".txt")):
        return Source("file", vocabulary)
    raise ValueError(f"vocabulary: found {vocabulary!r}, wanted {WANTED}")


@dataclass
class TextCount:
    """What a spelling makes of the texts of a node.

    Attributes
    ----------
    texts, texts_lost : int
        Texts with letters, and those among them of which no letter is left.
    letters, letters_lost : int
        Letters in them, and those that were dropped or are spelt otherwise.
    alphabet : Counter
        How often each character is used; the marks and digits among them, but no punctuation.
    """

    texts: int = 0
    texts_lost: int = 0
    letters: int = 0
    letters_lost: int = 0
    alphabet: Counter[str] = field(default_factory=Counter)

    def numbers(self) -> list[int]:
        """Return the four numbers, as a node answers them."""
        return [self.texts, self.texts_lost, self.letters, self.letters_lost]

    @classmethod
    def of(cls, numbers: list[int], alphabet: Counter[str]) -> "TextCount":
        """Return the count of the four numbers that a node answers, and its characters."""
        texts, texts_lost, letters, letters_lost = numbers
        return cls(texts, texts_lost, letters, letters_lost, alphabet)

    def __add__(self, other: "TextCount") -> "TextCount":
        """Return the count of both nodes' texts."""
        sums = [a + b for a, b in zip(self.numbers(), other.numbers(), strict=True)]
        return TextCount.of(sums, self.alphabet + other.alphabet)


def count(texts: Iterable[str | None], spelling: Spelling) -> TextCount:
    """Count what a spelling keeps and loses of texts."""
    result = TextCount()
    for text in texts:
        spelt = spelling.spell(text or "")
        lost = spelt.respelt.total()
        dropped = sum(n for c, n in spelt.dropped.items() if len(c) == 1 and is_letter(c))
        kept = len(spelt.words.replace(" ", ""))
        result.texts += bool(kept or dropped)
        result.texts_lost += bool(dropped and not kept)
        result.letters += kept + dropped
        result.letters_lost += lost + dropped
        for word in spelt.words.split():
            result.alphabet.update(word.strip("'"))  # at its ends they may be quotes
    return result


def every_letter(normaliser: Normaliser) -> Spelling:
    """Return the spelling of a vocabulary that lacks nothing: it shows what a text uses."""
    return Spelling(None, normaliser)


@dataclass(frozen=True)
class Choice:
    """The characters of a vocabulary, and what was left out.

    Attributes
    ----------
    kept : frozenset of str
        The characters.
    dropped : Counter
        How often each of the others is used.
    """

    kept: frozenset[str]
    dropped: Counter[str]


def choose(counts: Iterable[Counter[str]], min_nodes: int, normaliser: Normaliser) -> Choice:
    """Choose a vocabulary's characters from those that nodes use.

    Those are kept that at least ``min_nodes`` nodes use, or all nodes if there are fewer. If as
    many use any of a-z, all of a-z and the apostrophe are among them; the letters of the
    normaliser's language always are. A rare Latin letter with an accent is spelt without it.

    Parameters
    ----------
    counts : Iterable of Counter
        How often each node uses each character.
    min_nodes : int
        From 1.
    normaliser : Normaliser
        The run's normaliser.
    """
    nodes = [Counter({c: n for c, n in each.items() if _allowed(c)}) for each in counts]
    total: Counter[str] = sum(nodes, Counter())
    holders = Counter(character for each in nodes for character in each)
    enough = min(min_nodes, len(nodes))
    found = {character for character, n in holders.items() if n >= enough}
    complete = _completed(nodes, enough, normaliser)
    rare = total.total() * RARE
    left_out = {c for c in found - complete if total[c] < rare and _has_accent(c, found | complete)}
    kept = frozenset((found | complete) - left_out)
    return Choice(kept, Counter({c: n for c, n in total.items() if c not in kept}))


def _allowed(character: str) -> bool:
    return len(character) == 1 and (is_letter(character) or character == "'")


def _completed(nodes: list[Counter[str]], enough: int, normaliser: Normaliser) -> set[str]:
    """Return the letters that belong to those that nodes use, whether they use them or not."""
    letters: set[str] = set()
    for latin in (ascii_lowercase, ascii_uppercase):  # capitals only where case is kept
        if nodes and sum(not each.keys().isdisjoint(latin) for each in nodes) >= enough:
            letters |= {*latin, "'"}
    if normaliser.language:
        letters |= of_language(normaliser.language, normaliser)
    return letters


def of_language(code: str, normaliser: Normaliser) -> set[str]:
    """Return the letters of a language, and their capitals where these differ."""
    small = languages.get(code).alphabet()
    capitals = {c.upper() for c in small if len(c.upper()) == 1}
    return {*small, *(capitals if normaliser.case == "keep" else ())}


def _has_accent(character: str, others: set[str]) -> bool:
    """Return whether a Latin letter can be spelt with ``others``."""
    if not unicodedata.name(character, "").startswith("LATIN"):
        return False
    return bool(Spelling(others - {character}, Normaliser(case="keep")).spell(character).words)


def remark_on_digits(characters: Iterable[str], normaliser: Normaliser) -> str:
    """Return a line about digits in a vocabulary that a language would read; empty if none."""
    if normaliser.language or normaliser.numbers != "words":
        return ""
    if not any(map(str.isdigit, characters)):
        return ""
    return "vocabulary: holds digits; with language=en, or another, they are written as words"


def warning(counted: TextCount) -> str:
    """Return a line about what a vocabulary loses of texts; empty if it is next to nothing.

    It is worth a line if more than 1 % of the letters are lost, or any recording is lost wholly.
    """
    share = counted.letters_lost / max(1, counted.letters)
    if share <= TOO_MANY_LOST and not counted.texts_lost:
        return ""
    return (
        f"vocabulary: loses {share:.1%} of {counted.letters:,} letters (left out, or spelt with "
        f"others), and {counted.texts_lost:,} of {counted.texts:,} recordings wholly; wanted at "
        "most 1 % and none: vocabulary=auto keeps every letter that the training texts use"
    )
