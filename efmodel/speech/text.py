"""Normalise transcripts, encode them as labels, decode logits to text."""

import unicodedata
from collections import Counter

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.speech.vocabulary import boundary

_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u0060\u00b4"), "'")
_SPACES = dict.fromkeys(map(ord, "-\u2010\u2011\u2012\u2013\u2014_/"), " ")


def normalise(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Counter[str]]:
    """Return ``text`` in the tokenizer's characters, and the characters that were dropped.

    The text becomes lower case, or upper case if the vocabulary has no lower case letters. All
    apostrophes become ``'``, hyphens become spaces, and an accented letter loses its accent if the
    vocabulary only has the letter without it.
    """
    tokens = tokenizer.get_vocab()
    vocabulary = {token for token in tokens if len(token) == 1} - {boundary(tokenizer)}
    fold = str.lower if any(map(str.islower, vocabulary)) else str.upper
    text = fold(unicodedata.normalize("NFC", text)).translate(_APOSTROPHES).translate(_SPACES)
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    for character in text:
        base = unicodedata.normalize("NFD", character)[0]  # without accents
        if character.isspace():
            kept.append(" ")
        elif character in vocabulary:
            kept.append(character)
        elif base in vocabulary:
            kept.append(base)
        else:
            dropped[character] += 1
    return " ".join("".join(kept).split()), dropped


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
    best = logits.argmax(-1)
    return [
        spell(ids[:length].unique_consecutive().tolist(), tokenizer)
        for ids, length in zip(best, lengths, strict=True)
    ]
