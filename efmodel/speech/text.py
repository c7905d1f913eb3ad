"""Normalise transcripts, encode them as labels, decode logits to text."""

from collections import Counter
from functools import lru_cache

from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from efmodel.speech.spelling import Spelling
from efmodel.speech.vocabulary import boundary, normaliser_of, single_letters


def normalise(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Counter[str]]:
    """Return ``text`` in the tokenizer's characters, and what was dropped: characters and tags.

    The tokenizer's normaliser comes first, see :mod:`efmodel.speech.normaliser`; then what the
    vocabulary lacks is spelt with what it has, see :class:`efmodel.speech.spelling.Spelling`.
    """
    spelt = spelling_of(tokenizer).spell(text)
    return spelt.words, spelt.dropped


@lru_cache(maxsize=16)  # a vocabulary has up to thousands of characters; tokenizers do not change
def spelling_of(tokenizer: PreTrainedTokenizerBase) -> Spelling:
    """Return how texts are written in a tokenizer's characters."""
    return Spelling(single_letters(tokenizer), normaliser_of(tokenizer))


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the labels of a text that ``normalise`` returned."""
    labels: list[int] = tokenizer(text).input_ids
    return labels


def space(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the labels to put between two texts' labels; subwords mark their words themselves."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        return []
    return [tokenizer.convert_tokens_to_ids(boundary(tokenizer))]


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
