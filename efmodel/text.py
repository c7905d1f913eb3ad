"""From transcripts to labels, and from logits back to words."""

import json
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from string import ascii_lowercase

from torch import Tensor
from transformers import Wav2Vec2CTCTokenizer

# The blank is the padding token, "|" stands between words: wav2vec2's conventions.
CHARACTERS = {
    token: index for index, token in enumerate(["<pad>", "<unk>", "|", "'", *ascii_lowercase])
}
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u0060\u00b4"), "'")
_SPACES = dict.fromkeys(map(ord, "-\u2010\u2011\u2012\u2013\u2014_/"), " ")


def tokenizer_from(vocabulary: dict[str, int]) -> Wav2Vec2CTCTokenizer:
    """Return a CTC tokenizer for ``{token: index}``."""
    with tempfile.TemporaryDirectory() as folder:  # it takes its vocabulary from a file only
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(path), bos_token=None, eos_token=None)


def normalise(text: str, tokenizer: Wav2Vec2CTCTokenizer) -> tuple[str, Counter[str]]:
    """Return ``text`` in the tokenizer's characters, and the characters that had to be dropped.

    Lower case, one kind of apostrophe, hyphens as spaces, accents taken off where the vocabulary
    has only the bare letter.
    """
    vocabulary = set(tokenizer.get_vocab()) - {tokenizer.word_delimiter_token}
    text = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES).translate(_SPACES)
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    for character in text:
        bare = unicodedata.normalize("NFD", character)[0]
        if character.isspace():
            kept.append(" ")
        elif character in vocabulary:
            kept.append(character)
        elif bare in vocabulary:
            kept.append(bare)
        else:
            dropped[character] += 1
    return " ".join("".join(kept).split()), dropped


def encode(text: str, tokenizer: Wav2Vec2CTCTokenizer) -> list[int]:
    """Return the labels of a normalised text."""
    labels: list[int] = tokenizer(text).input_ids
    return labels


def min_frames(labels: list[int]) -> int:
    """Return the frames that CTC needs: one a label, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def decode_greedily(logits: Tensor, lengths: Tensor, tokenizer: Wav2Vec2CTCTokenizer) -> list[str]:
    """Return the words of each utterance: best label per frame, repeats and blanks removed.

    ``logits`` is ``[batch, frames, vocab]``, ``lengths`` each utterance's own frames ``[batch]``.
    """
    best = logits.argmax(-1)
    texts = [
        tokenizer.decode(ids[:length].tolist()) for ids, length in zip(best, lengths, strict=True)
    ]
    return [" ".join(text.split()) for text in texts]
