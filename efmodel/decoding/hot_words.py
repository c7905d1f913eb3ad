"""Words that a transcript is expected to hold, such as names: they score more than others."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from efmodel.speech.normaliser import UNSPACED, in_units

_STARTS_UNSPACED = re.compile(f"[{UNSPACED}]")


class HotState(NamedTuple):
    """Where the end of a text stands in the hot words.

    Attributes
    ----------
    matched : str
        The longest end of the text that starts a hot word.
    paid : int
        Characters at the start of ``matched`` that an earlier, complete hot word was paid for.
    """

    matched: str
    paid: int


class HotWords:
    """Finds hot words in texts that grow by single characters, as Aho and Corasick (1975) do.

    A hot word matches whole words, as it does in ``in_units``: "ann" is not in "anna", but a word
    of a script without spaces may stand anywhere. The start of a hot word scores already, so that
    a rare one survives in a beam until it is complete; a text that goes on otherwise loses that.

    Parameters
    ----------
    words : Iterable of str
        Words, or several words separated by spaces, in the characters of the texts.
    weight : float
        Natural log-probability to add per character, spaces excluded.
    """

    def __init__(self, words: Iterable[str], weight: float) -> None:
        self.weight = weight
        self.patterns = frozenset(_pattern(word) for word in words if word.strip())
        self._starts = {p[:end] for p in self.patterns for end in range(len(p) + 1)} | {""}
        self._next: dict[tuple[HotState, str], tuple[HotState, float]] = {}
        self.start, _ = self.step(HotState("", 0), " ")

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def step(self, state: HotState, character: str) -> tuple[HotState, float]:
        """Return the state after a character, and the score of the hot word that it completes."""
        key = state, character
        if key not in self._next:
            self._next[key] = self._step(state, character)
        return self._next[key]

    def partial(self, state: HotState) -> float:
        """Return the score of a hot word that has started; lost if it is not completed."""
        return self.weight * _letters(state.matched[state.paid :])

    def _step(self, state: HotState, character: str) -> tuple[HotState, float]:
        matched, paid = state.matched + character, state.paid
        score = 0.0
        while matched not in self._starts:
            matched, paid = matched[1:], max(0, paid - 1)
        # Only the longest hot word that ends here counts.
        for start in range(len(matched)):
            if matched[start:] in self.patterns:
                score = self.weight * _letters(matched[max(paid, start) :])
                paid = len(matched)
                break
        if matched in self.patterns and not self._goes_on(matched):
            matched, paid = (" ", 1) if matched.endswith(" ") and " " in self._starts else ("", 0)
        return HotState(matched, paid), score

    def _goes_on(self, matched: str) -> bool:
        return any(p.startswith(matched) and p != matched for p in self.patterns)


def _letters(text: str) -> int:
    return len(text) - text.count(" ")


def _pattern(word: str) -> str:
    """Return a hot word with a space on each side where its script has spaces between words."""
    units = in_units(word).split()
    before, after = ("" if _STARTS_UNSPACED.match(units[end]) else " " for end in (0, -1))
    return before + " ".join(word.split()) + after
