"""The labels that a recogniser spells with: characters, or pieces of words.

Characters come as wav2vec2's tokenizer, pieces of words as byte-pair encoding. Both are used in one
way: words are spelled in the tokenizer's single characters, and a boundary mark stands between (or
before) them.
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

# The blank is the padding token, "|" stands between words: wav2vec2's conventions.
CHARACTERS = {
    token: index for index, token in enumerate(["<pad>", "<unk>", "|", "'", *ascii_lowercase])
}
BPE256 = Path(__file__).with_name("bpe256.json")  # made by simulation/make_bpe.py
METASPACE = "\u2581"  # begins the first piece of a word
_SPECIAL = ("pad_token", "unk_token", "bos_token", "eos_token", "word_delimiter_token")


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
