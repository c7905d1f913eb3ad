"""CTC beam search with a language model and hot words. Neither torch nor transformers is needed.

The search is the prefix beam search of Hannun et al. (2014, arXiv 1408.2873, algorithm 1): the
score of a labelling y of the frames x is

    ln P_ctc(y | x) + lm_weight * ln P_lm(words of y) + word_bonus * number of words + hot words

(shallow fusion). KenLM reads the language model; the search is ours, for no library does all that
the project needs (November 2026). pyctcdecode 0.5.0 needs numpy < 2, which has no wheels for Python
3.13. flashlight-text 0.0.7 has none for Python 3.13 either (ufal-flashlight-text has), and knows
either a closed list of words or a language model of tokens. ctc-beam-decoder 0.2.0 has no wheels
for Linux on ARM, and no source.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from efmodel.decoding.arpa import LanguageModel
from efmodel.decoding.hot_words import HotState, HotWords
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError
from efmodel.speech.normaliser import UNSPACED, in_units

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEAM_WIDTH = 64  # labellings kept after each frame
MIN_LOG_PROB = -7.0  # labels below it extend no labelling in this frame; 1 in 1,100
MAX_LABELS = 40  # most probable labels of a frame that extend labellings, of large vocabularies
# The next four are natural log-probabilities to add; docs/language-models.md has what they do.
LM_WEIGHT = 0.3
WORD_BONUS = 2.0  # per word: a language model prefers few words
UNKNOWN_PENALTY = -3.0  # per word that the language model lacks
HOT_WORD_WEIGHT = 1.0  # per character of a hot word
_FORGET_EVERY = 100  # frames after which dead labellings are freed
_FIRST_UNSPACED = UNSPACED[0]  # no character before it needs a closer look


class Hypothesis(NamedTuple):
    """A result of the search.

    Attributes
    ----------
    text : str
        Words separated by single spaces.
    labels : list of int
        The labelling: without blanks and repetitions, for forced alignment.
    score : float
        Natural log-probability, with what language model and hot words add.
    """

    text: str
    labels: list[int]
    score: float


class _Prefix:
    """A labelling in the beam: a node in the tree of labellings."""

    __slots__ = ("children", "hot", "hot_score", "label", "lm", "parent", "score", "word", "words")

    def __init__(self, parent: "_Prefix | None", label: int, lm: Any, hot: HotState) -> None:
        self.parent = parent
        self.label = label
        self.children: dict[int, _Prefix] = {}
        self.lm = lm  # the language model's state after the last complete word
        self.word = ""  # characters since then
        self.words = 0.0  # score of the complete words
        self.hot = hot
        self.hot_score = 0.0  # of complete hot words
        self.score = 0.0  # what language model and hot words add, started words included

    def labels(self) -> list[int]:
        labels: list[int] = []
        prefix: _Prefix | None = self
        while prefix is not None and prefix.parent is not None:
            labels.append(prefix.label)
            prefix = prefix.parent
        return labels[::-1]


class BeamSearch:
    """Finds the text of an utterance.

    Without a language model and hot words it is the most probable labelling.

    Parameters
    ----------
    tokens : Tokens
        What the labels stand for.
    language_model : Path or str, optional
        An ARPA file, see :class:`efmodel.decoding.arpa.LanguageModel`.
    hot_words : Iterable of str
        Words, or several words separated by spaces, in the characters of the tokens.
    lm_weight, word_bonus : float
        See the formula above; used with a language model only.
    unknown_penalty : float
        Natural log-probability to add for each word that is neither in the language model nor hot.
    hot_word_weight : float
        Natural log-probability that a hot word gets per character.
    beam_width : int
        Labellings kept after each frame.
    min_log_prob : float
        Natural log-probability below which a label extends no labelling in a frame.

    Raises
    ------
    UserError
        If the language model cannot be read, or it or a hot word is written in other characters.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        language_model: Path | str | None = None,
        hot_words: Iterable[str] = (),
        lm_weight: float = LM_WEIGHT,
        word_bonus: float = WORD_BONUS,
        unknown_penalty: float = UNKNOWN_PENALTY,
        hot_word_weight: float = HOT_WORD_WEIGHT,
        beam_width: int = BEAM_WIDTH,
        min_log_prob: float = MIN_LOG_PROB,
    ) -> None:
        self.written = [tokens.written(label) for label in range(len(tokens.tokens))]
        self.blank = tokens.blank
        self.lm_weight, self.word_bonus = lm_weight, word_bonus
        self.unknown_penalty = unknown_penalty
        self.beam_width, self.min_log_prob = beam_width, min_log_prob
        hot_words = list(hot_words)
        characters = set("".join(self.written))
        _check_hot_words(hot_words, characters)
        self.hot = HotWords(hot_words, hot_word_weight)
        self._hot_units = {unit for word in hot_words for unit in in_units(word).split()}
        self._hot_starts = {unit[:end] for unit in self._hot_units for end in range(len(unit) + 1)}
        self.lm: LanguageModel | None = None
        if language_model is not None:
            self.lm = LanguageModel(language_model)
            _check_words(self.lm.words, characters, language_model)

    @classmethod
    def of_tokenizer(
        cls, tokenizer: "PreTrainedTokenizerBase", hot_words: Iterable[str] = (), **options: Any
    ) -> "BeamSearch":
        """Return the search for a tokenizer; hot words are normalised as its texts are."""
        from efmodel.speech.text import normalise

        words = [normalise(word, tokenizer)[0] for word in hot_words]
        return cls(Tokens.of(tokenizer), hot_words=words, **options)

    def __call__(self, log_probs: NDArray[np.floating[Any]]) -> str:
        """Return the best text of an utterance; see ``search``."""
        return self.search(log_probs).text

    def search(self, log_probs: NDArray[np.floating[Any]]) -> Hypothesis:
        """Return the best hypothesis of an utterance.

        Parameters
        ----------
        log_probs : NDArray
            ``[frames, vocab]``, natural log-probabilities of each frame's labels.
        """
        start = self.lm.start if self.lm else None
        beam = {_Prefix(None, -1, start, self.hot.start): (1.0, 0.0)}
        log_scale = 0.0  # probabilities in the beam are multiplied by exp(-log_scale)
        for frame, row in enumerate(log_probs.astype(np.float64)):
            beam, log_best = self._pruned(self._step(beam, row))
            log_scale += log_best
            if frame % _FORGET_EVERY == _FORGET_EVERY - 1:
                _forget(beam)
        scores = {p: _log(sum(beam[p])) + self._final(p) for p in beam}
        best = max(scores, key=scores.__getitem__)
        labels = best.labels()
        text = " ".join("".join(self.written[label] for label in labels).split())
        return Hypothesis(text, labels, scores[best] + log_scale)

    def _step(
        self, beam: dict[_Prefix, tuple[float, float]], row: NDArray[np.float64]
    ) -> dict[_Prefix, tuple[float, float]]:
        """Return the labellings after one more frame, and their probabilities.

        Each has two: of its paths that end in a blank, and of those that end in its last label.
        """
        probs = np.exp(row).tolist()
        blank = probs[self.blank]
        likely = np.flatnonzero(row >= min(self.min_log_prob, row.max()))
        if len(likely) > MAX_LABELS:
            likely = likely[np.argsort(-row[likely], kind="stable")[:MAX_LABELS]]
        labels = [(label, probs[label]) for label in likely.tolist() if label != self.blank]
        after: dict[_Prefix, tuple[float, float]] = {}
        for prefix, (in_blank, in_label) in beam.items():
            total = in_blank + in_label
            _, other = after.get(prefix, (0.0, 0.0))
            stay = in_label * probs[prefix.label] if prefix.label >= 0 else 0.0
            after[prefix] = total * blank, other + stay
            for label, prob in labels:
                # A repetition is a label of its own only after a blank.
                added = (in_blank if label == prefix.label else total) * prob
                if added:
                    child = prefix.children.get(label) or self._extended(prefix, label)
                    ends_blank, ends_label = after.get(child, (0.0, 0.0))
                    after[child] = ends_blank, ends_label + added
        return after

    def _pruned(
        self, beam: dict[_Prefix, tuple[float, float]]
    ) -> tuple[dict[_Prefix, tuple[float, float]], float]:
        """Return the best labellings, scaled so that the most probable has 1, and ln of that."""
        best = max(map(sum, beam.values()))
        if len(beam) > self.beam_width:
            scores = {p: _log(a + b) + p.score for p, (a, b) in beam.items()}
            kept = sorted(scores, key=scores.__getitem__, reverse=True)[: self.beam_width]
            beam = {prefix: beam[prefix] for prefix in kept}
        return {p: (a / best, b / best) for p, (a, b) in beam.items()}, math.log(best)

    def _extended(self, prefix: _Prefix, label: int) -> _Prefix:
        """Return a labelling with one more label, and its score."""
        child = _Prefix(prefix, label, prefix.lm, prefix.hot)
        child.word, child.words, child.hot_score = prefix.word, prefix.words, prefix.hot_score
        for character in self.written[label]:
            self._append(child, character)
        child.score = child.words + child.hot_score
        if self.hot:
            child.score += self.hot.partial(child.hot)
        if self.lm and child.word and not self._may_be_known(child.word):
            child.score += self.unknown_penalty  # at once: it cannot become a known word
        prefix.children[label] = child
        return child

    def _append(self, prefix: _Prefix, character: str) -> None:
        if character == " ":
            if not prefix.word:
                return  # several spaces are one, those at the start none
            self._finish_word(prefix)
        elif prefix.word and _starts_unit(prefix.word, character):
            self._finish_word(prefix)
            prefix.word = character
        else:
            prefix.word += character
        if self.hot:
            prefix.hot, score = self.hot.step(prefix.hot, character)
            prefix.hot_score += score

    def _finish_word(self, prefix: _Prefix) -> None:
        if self.lm:
            log_prob, prefix.lm, known = self.lm.score(prefix.lm, prefix.word)
            prefix.words += self.lm_weight * log_prob + self.word_bonus
            if not known and prefix.word not in self._hot_units:
                prefix.words += self.unknown_penalty
        prefix.word = ""

    def _may_be_known(self, word: str) -> bool:
        return word in self._hot_starts or (self.lm is not None and self.lm.has_prefix(word))

    def _final(self, prefix: _Prefix) -> float:
        """Return the score of a labelling at the end of the utterance."""
        ended = _Prefix(prefix, -1, prefix.lm, prefix.hot)
        ended.word, ended.words, ended.hot_score = prefix.word, prefix.words, prefix.hot_score
        self._append(ended, " ")
        end = self.lm_weight * self.lm.end(ended.lm) if self.lm else 0.0
        return ended.words + ended.hot_score + end


def _starts_unit(word: str, character: str) -> bool:
    """Return whether a character starts a word of its own: in scripts without spaces."""
    if character < _FIRST_UNSPACED and word[-1] < _FIRST_UNSPACED:
        return False
    return " " in in_units(word + character)


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def _forget(beam: Iterable[_Prefix]) -> None:
    """Free the labellings that are not in the beam and that nothing in it continues."""
    alive: set[_Prefix] = set()
    for prefix in beam:
        node: _Prefix | None = prefix
        while node is not None and node not in alive:
            alive.add(node)
            node = node.parent
    for node in alive:
        node.children = {label: c for label, c in node.children.items() if c in alive}


def _check_hot_words(words: Iterable[str], characters: Collection[str]) -> None:
    for word in words:
        if foreign := "".join(sorted(set(word) - set(characters) - {" "})):
            raise UserError(
                f"hot words: found {word!r}, wanted the characters of the model, without {foreign}"
            )


def _check_words(words: Sequence[str], characters: Collection[str], path: Path | str) -> None:
    if words and not any(set(word) <= set(characters) for word in words):
        raise UserError(
            f"{path}: found words such as {words[len(words) // 2]!r}, wanted words in the "
            f"characters of the model: {''.join(sorted(set(characters) - {' '}))[:60]}"
        )
