"""From transcripts to labels, and from logits back to words.

Labels are characters, by wav2vec2's tokenizer, or pieces of words, by byte-pair encoding. Both are
used in one way here: words are spelled in the tokenizer's single characters, and a boundary mark
stands between (or before) them.
"""

import json
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from string import ascii_lowercase

from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Wav2Vec2CTCTokenizer,
)

# The blank is the padding token, "|" stands between words: wav2vec2's conventions.
CHARACTERS = {
    token: index for index, token in enumerate(["<pad>", "<unk>", "|", "'", *ascii_lowercase])
}
BPE256 = Path(__file__).with_name("bpe256.json")  # made by simulation/make_bpe.py
METASPACE = "\u2581"  # begins the first piece of a word
_SPECIAL = ("pad_token", "unk_token", "bos_token", "eos_token", "word_delimiter_token")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u0060\u00b4"), "'")
_SPACES = dict.fromkeys(map(ord, "-\u2010\u2011\u2012\u2013\u2014_/"), " ")


def tokenizer_from(
    vocabulary: dict[str, int], **special_tokens: str | None
) -> Wav2Vec2CTCTokenizer:
    """Return a CTC tokenizer for ``{token: index}``."""
    with tempfile.TemporaryDirectory() as folder:  # it takes its vocabulary from a file only
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), encoding="utf-8")
        special_tokens = {"bos_token": None, "eos_token": None, **special_tokens}
        return Wav2Vec2CTCTokenizer(str(path), **special_tokens)


def bpe_from(
    definition: str, pad_token: str = "<pad>", unk_token: str = "<unk>"
) -> PreTrainedTokenizerFast:
    """Return the tokenizer that ``definition``, the ``tokenizers`` library's JSON, describes."""
    pieces = Tokenizer.from_str(definition)
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token=pad_token, unk_token=unk_token
    )


def of_preset(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the preset ``name``: ``paper`` spells in pieces of words."""
    if name == "paper":
        return bpe_from(BPE256.read_text(encoding="utf-8"))
    return tokenizer_from(CHARACTERS)


def to_json(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return all that makes a tokenizer of either kind; the same text for the same spelling."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        special = {"pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token}
        return json.dumps({"definition": tokenizer.backend_tokenizer.to_str(), **special})
    special = {name: getattr(tokenizer, name) for name in _SPECIAL}
    by_index = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return json.dumps({"vocabulary": dict(by_index), **special})


def from_json(description: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer that ``to_json`` described."""
    arguments = json.loads(description)
    return bpe_from(**arguments) if "definition" in arguments else tokenizer_from(**arguments)


def boundary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the mark that stands for the space between words."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        return METASPACE
    return str(tokenizer.word_delimiter_token)


def normalise(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Counter[str]]:
    """Return ``text`` in the tokenizer's characters, and the characters that had to be dropped.

    Lower case, or upper where the vocabulary has no lower; one kind of apostrophe, hyphens as
    spaces, accents taken off where the vocabulary has only the bare letter.
    """
    tokens = tokenizer.get_vocab()
    vocabulary = {token for token in tokens if len(token) == 1} - {boundary(tokenizer)}
    fold = str.lower if any(map(str.islower, vocabulary)) else str.upper
    text = fold(unicodedata.normalize("NFC", text)).translate(_APOSTROPHES).translate(_SPACES)
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


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the labels of a normalised text."""
    labels: list[int] = tokenizer(text).input_ids
    return labels


def min_frames(labels: list[int]) -> int:
    """Return the frames that CTC needs: one a label, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def spell(labels: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the words of labels, each one said once; blanks and other special tokens go."""
    mark = boundary(tokenizer)
    special = set(tokenizer.all_special_tokens) - {mark}
    tokens = [t for t in tokenizer.convert_ids_to_tokens(labels) if t not in special]
    return " ".join("".join(tokens).replace(mark, " ").split())


def decode_greedily(
    logits: Tensor, lengths: Tensor, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Return the words of each utterance: best label per frame, repeats and blanks removed.

    ``logits`` is ``[batch, frames, vocab]``, ``lengths`` each utterance's own frames ``[batch]``.
    """
    best = logits.argmax(-1)
    return [
        spell(ids[:length].unique_consecutive().tolist(), tokenizer)
        for ids, length in zip(best, lengths, strict=True)
    ]
