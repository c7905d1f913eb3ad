"""Normalise transcripts, encode them as labels, decode logits to text."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.speech.vocabulary import boundary

APOSTROPHES = "'\u2019\u2018\u201b\u02bc\u02bb\u0060\u00b4\uff07"
SEPARATORS = "-\u2010\u2011\u2012\u2013\u2014_/"
# Marks of what is no speech: <unk>, </s>, [laughter].
TAG = re.compile(r"</?\w[^<>]*>|\[[^\[\]]*\]")
# Unicode does not decompose stroked letters and some ligatures, but its names tell: "LATIN SMALL
# LETTER L WITH STROKE", "LATIN SMALL LIGATURE OE".
LATIN_NAME = re.compile(r"LATIN (?:SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .*)?")
LATIN_SPELLINGS = {"\u00f0": "d", "\u00fe": "th", "\u014b": "ng"}  # eth, thorn, eng


def normalise(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Counter[str]]:
    """Return ``text`` in the tokenizer's characters, and what was dropped: characters and tags.

    The text becomes lower case, or upper case if most letters of the vocabulary are. A letter that
    the vocabulary lacks is spelt with those that it has: without its accent or stroke, a ligature
    or sharp s as two letters. Punctuation and hyphens separate words; apostrophes do not, and
    become the one that the vocabulary has. Tags such as ``<unk>`` and ``[laughter]`` are no speech.
    """
    vocabulary = {token for token in tokenizer.get_vocab() if len(token) == 1}
    vocabulary -= {boundary(tokenizer)}
    change_case = _case(vocabulary)
    apostrophe = next((c for c in APOSTROPHES if c in vocabulary), "'")
    dropped = Counter(TAG.findall(text))
    text = unicodedata.normalize("NFC", TAG.sub(" ", text))
    text = text.translate(dict.fromkeys(map(ord, APOSTROPHES), apostrophe))
    text = text.translate(dict.fromkeys(map(ord, SEPARATORS), " "))
    kept: list[str] = []
    for character in change_case(text):
        if character.isspace():
            kept.append(" ")
        elif character in vocabulary:
            kept.append(character)
        elif spelling := _spell_with(vocabulary, character, change_case):
            kept.append(spelling)
        else:
            dropped[character] += 1
            if unicodedata.category(character)[0] in "PS" and character != apostrophe:
                kept.append(" ")  # "Well...I" are two words
    return " ".join("".join(kept).split()), dropped


def _case(vocabulary: set[str]) -> Callable[[str], str]:
    """Return the function that gives a text the case of most of the vocabulary's letters."""
    upper = sum(map(str.isupper, vocabulary))
    if upper <= sum(map(str.islower, vocabulary)):
        return str.lower
    # A sharp s stays one letter here: the vocabulary may have it.
    return lambda text: "".join(c.upper() if len(c.upper()) == 1 else c for c in text)


def _spell_with(vocabulary: set[str], character: str, change_case: Callable[[str], str]) -> str:
    """Return how to write a character with those of the vocabulary; empty if it cannot be."""
    for spelling in _spellings(character):
        for cased in (change_case(spelling), spelling):
            if cased and vocabulary.issuperset(cased):
                return cased
    return ""


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


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the labels of a text that ``normalise`` returned."""
    labels: list[int] = tokenizer(text).input_ids
    return labels


def min_frames(labels: list[int]) -> int:
    """Return the number of frames that CTC needs: one per label, and one between equal labels."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def spell(labels: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of labels without repetitions; special tokens are left out."""
    space = boundary(tokenizer)
    special = set(tokenizer.all_special_tokens) - {space}
    tokens = [t for t in tokenizer.convert_ids_to_tokens(labels) if t not in special]
    return " ".join("".join(tokens).replace(space, " ").split())


def decode_greedily(
    logits: Tensor, lengths: Tensor, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Return the text of each utterance: the best label per frame, repeats and blanks removed.

    ``logits`` is ``[batch, frames, vocab]``, ``lengths`` ``[batch]``, the frames of each utterance.
    """
    best = logits.argmax(-1).cpu()  # from a GPU at once, not utterance by utterance
    return [
        spell(ids[:length].unique_consecutive().tolist(), tokenizer)
        for ids, length in zip(best, lengths.tolist(), strict=True)
    ]
