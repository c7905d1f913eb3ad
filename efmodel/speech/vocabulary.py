"""Tokenizers: characters (wav2vec2's tokenizer) or subwords (byte-pair encoding).

Both kinds are used alike: a text consists of the tokenizer's single characters, and a boundary
token stands between words (characters) or starts each word (subwords).
"""

import json
import tempfile
from pathlib import Path
from string import ascii_lowercase

from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Wav2Vec2CTCTokenizer,
)

# wav2vec2's conventions: the CTC blank is the padding token, "|" stands between words.
CHARACTERS = {
    token: index for index, token in enumerate(["<pad>", "<unk>", "|", "'", *ascii_lowercase])
}
BPE256 = Path(__file__).with_name("bpe256.json")  # made by simulation/make_bpe.py
METASPACE = "\u2581"  # starts the first subword of a word


def tokenizer_from(
    vocabulary: dict[str, int], **special_tokens: str | None
) -> Wav2Vec2CTCTokenizer:
    """Return a tokenizer of characters for ``{token: index}``."""
    with tempfile.TemporaryDirectory() as folder:  # its constructor takes only a file
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), encoding="utf-8")
        special_tokens = {"bos_token": None, "eos_token": None, **special_tokens}
        return Wav2Vec2CTCTokenizer(str(path), **special_tokens)


def bpe_from(
    definition: str, pad_token: str = "<pad>", unk_token: str = "<unk>"
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of subwords; ``definition`` is the JSON of the ``tokenizers`` library."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(definition), pad_token=pad_token, unk_token=unk_token
    )


def of_preset(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the preset ``name``: subwords for ``paper``, else characters."""
    if name == "paper":
        return bpe_from(BPE256.read_text(encoding="utf-8"))
    return tokenizer_from(CHARACTERS)


def to_json(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a description for ``from_json``; equal tokenizers give equal descriptions."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        special = {"pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token}
        return json.dumps({"definition": tokenizer.backend_tokenizer.to_str(), **special})
    by_index = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return json.dumps(
        {
            "vocabulary": dict(by_index),
            "pad_token": tokenizer.pad_token,
            "unk_token": tokenizer.unk_token,
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
            "word_delimiter_token": tokenizer.word_delimiter_token,
        }
    )


def from_json(description: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a description by ``to_json``."""
    arguments = json.loads(description)
    return bpe_from(**arguments) if "definition" in arguments else tokenizer_from(**arguments)


def boundary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that stands for the space between words."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        return METASPACE
    return str(tokenizer.word_delimiter_token)
