"""Tokenizers: characters (wav2vec2's tokenizer) or subwords (byte-pair encoding).

Both kinds are used alike: a text consists of the tokenizer's single characters, and a boundary
token stands between words (characters) or starts each word (subwords).
"""

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import ascii_lowercase

from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from transformers import (
    ParakeetTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Wav2Vec2CTCTokenizer,
)

from efmodel.errors import UserError
from efmodel.speech import alphabet
from efmodel.speech.normaliser import Normaliser
from efmodel.speech.spelling import METASPACE, single_characters

# wav2vec2's conventions: the CTC blank is the padding token, "|" stands between words.
CHARACTERS = {
    token: index for index, token in enumerate(["<pad>", "<unk>", "|", "'", *ascii_lowercase])
}
BPE256 = Path(__file__).with_name("bpe256.json")  # made by simulation/make_bpe.py
SHOWN = 60  # characters of a vocabulary in one line
SPECIAL = ("<pad>", "<unk>")  # the blank is 0
NORMALISER = "normaliser"  # the name of its fields in a saved tokenizer


class VocabularyError(UserError):
    """A vocabulary that cannot be read or built."""


def tokenizer_from(
    vocabulary: dict[str, int],
    normaliser: Mapping[str, str] | None = None,
    **special_tokens: str | None,
) -> PreTrainedTokenizerBase:
    """Return a tokenizer of characters for ``{token: index}``."""
    with tempfile.TemporaryDirectory() as folder:  # its constructor takes only a file
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), encoding="utf-8")
        special_tokens = {"bos_token": None, "eos_token": None, **special_tokens}
        tokenizer = Wav2Vec2CTCTokenizer(str(path), **special_tokens)
    return with_normaliser(tokenizer, Normaliser.of(normaliser or {}))


def bpe_from(
    definition: str,
    pad_token: str = "<pad>",
    unk_token: str = "<unk>",
    normaliser: Mapping[str, str] | None = None,
) -> PreTrainedTokenizerBase:
    """Return a tokenizer of subwords; ``definition`` is the JSON of the ``tokenizers`` library."""
    tokenizer = ParakeetTokenizer(  # transformers' only one for subwords whose decode is CTC's
        tokenizer_object=Tokenizer.from_str(definition), pad_token=pad_token, unk_token=unk_token
    )
    return with_normaliser(tokenizer, Normaliser.of(normaliser or {}))


def with_normaliser(
    tokenizer: PreTrainedTokenizerBase, normaliser: Normaliser
) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer with this normaliser, which is saved with it."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs.pop(NORMALISER, None)
    if fields := normaliser.fields():
        tokenizer.init_kwargs[NORMALISER] = fields
    return tokenizer


def normaliser_of(tokenizer: PreTrainedTokenizerBase) -> Normaliser:
    """Return the normaliser of a tokenizer; the default one if none was saved with it."""
    return Normaliser.of(tokenizer.init_kwargs.get(NORMALISER, {}))


def of_preset(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the preset ``name``: subwords for ``paper``, else characters."""
    if name == "paper":
        return bpe_from(BPE256.read_text(encoding="utf-8"))
    return tokenizer_from(CHARACTERS)


def of_characters(characters: Iterable[str], normaliser: Normaliser) -> PreTrainedTokenizerBase:
    """Return a tokenizer of single characters; those of English are the default vocabulary."""
    tokens = [*SPECIAL, "|", *sorted(characters)]
    return tokenizer_from({t: i for i, t in enumerate(tokens)}, normaliser.fields())


def of_texts(
    used: Iterable[Counter[str]], min_nodes: int, default: PreTrainedTokenizerBase
) -> tuple[PreTrainedTokenizerBase, Counter[str]]:
    """Return the tokenizer of the characters that nodes use, and how often they use others.

    It is the default tokenizer if that has them all: such models fit together.

    Parameters
    ----------
    used : Iterable of Counter
        How often each node uses each character.
    min_nodes : int
        Leave out characters that fewer nodes use.
    default : PreTrainedTokenizerBase
        The default tokenizer, with the normaliser of the run.
    """
    normaliser = normaliser_of(default)
    choice = alphabet.choose(used, min_nodes, normaliser)
    if choice.kept <= single_letters(default):
        return default, choice.dropped
    return of_characters(choice.kept, normaliser), choice.dropped


def named(vocabulary: str, normaliser: Normaliser) -> PreTrainedTokenizerBase:
    """Return the tokenizer that the run config's ``vocabulary`` names; it must not be "auto".

    Raises
    ------
    VocabularyError
        If its file is missing, or holds no vocabulary.
    """
    kind, value, size = alphabet.source(vocabulary)
    if kind == "language":
        return of_characters(alphabet.of_language(value, normaliser), normaliser)
    if kind == "characters":
        return of_characters(_checked(value, "vocabulary"), normaliser)
    file = Path(value).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"vocabulary: found no text in UTF-8 in {file} ({error})") from None
    if kind == "bpe":
        spelling = alphabet.every_letter(normaliser)
        lines = (spelling.spell(line).words for line in text.splitlines())
        return bpe_from(learned_pieces(lines, size, str(file)), normaliser=normaliser.fields())
    return _from_file(file, text, normaliser)


def _checked(text: str, where: str) -> set[str]:
    """Return the characters of a text without spaces.

    Raises
    ------
    VocabularyError
        If one of them has another use.
    """
    characters = set("".join(text.split()))
    if "|" in characters or not characters:
        found = "'|', which stands between words" if characters else "no characters"
        raise VocabularyError(f"{where}: found {found}, wanted the characters of words")
    return characters


def _from_file(file: Path, text: str, normaliser: Normaliser) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a file holds: tokens by index, the tokenizers library's, text."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return of_characters(_checked(text, str(file)), normaliser)
    if "model" in content:
        try:
            tokenizer = bpe_from(text, normaliser=normaliser.fields())
        except Exception as error:  # tokenizers raises no other
            raise VocabularyError(f"{file}: found no readable tokenizer ({error})") from None
        if tokenizer.get_vocab().get("<pad>") != 0:
            raise VocabularyError(f"{file}: found no <pad> with index 0, wanted it as the blank")
        return tokenizer
    wanted = [*SPECIAL, "|"]
    if sorted(content.values(), key=str) != sorted(range(len(content)), key=str) or any(
        token not in content for token in wanted
    ):
        raise VocabularyError(
            f"{file}: found {len(content)} entries, wanted tokens with the indices from 0, "
            f"{', '.join(wanted)} among them"
        )
    return tokenizer_from(content, normaliser.fields())


def learned_pieces(lines: Iterable[str], size: int, where: str) -> str:
    """Learn pieces of words from lines of text by byte-pair encoding.

    Parameters
    ----------
    lines : Iterable of str
        Normalised texts.
    size : int
        Number of pieces, the blank among them.
    where : str
        Their file, for the error's message.

    Returns
    -------
    str
        The definition for ``bpe_from``.

    Raises
    ------
    VocabularyError
        If there are as many characters as pieces, or none.
    """
    texts = [line for line in lines if line]
    characters = sorted(set("".join(texts)) - {" "})
    if not characters or len(characters) + len(SPECIAL) + 1 > size:
        wanted = f"from 1 to {size - len(SPECIAL) - 1}, fewer than the {size} pieces"
        raise VocabularyError(f"{where}: found {len(characters)} characters, wanted {wanted}")
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = Metaspace(METASPACE)
    tokenizer.decoder = MetaspaceDecoder(METASPACE)
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=[METASPACE, *characters],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def single_letters(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Return the characters in which a tokenizer's texts are written."""
    return single_characters(tokenizer.get_vocab(), boundary(tokenizer))


def described(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a tokenizer's characters, and its pieces of words if it has some, in one line."""
    characters = "".join(sorted(single_letters(tokenizer)))
    shown = characters if len(characters) <= SHOWN else f"{characters[:SHOWN]} ..."
    kind = f"{len(tokenizer)} pieces of " if isinstance(tokenizer, PreTrainedTokenizerFast) else ""
    return f"{kind}{len(characters)} characters: {shown}"


def to_json(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a description for ``from_json``; equal tokenizers give equal descriptions."""
    fields = normaliser_of(tokenizer).fields()
    normaliser = {NORMALISER: fields} if fields else {}
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        special = {"pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token}
        definition = tokenizer.backend_tokenizer.to_str()
        return json.dumps({"definition": definition, **special, **normaliser})
    by_index = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return json.dumps(
        {
            "vocabulary": dict(by_index),
            "pad_token": tokenizer.pad_token,
            "unk_token": tokenizer.unk_token,
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
            "word_delimiter_token": tokenizer.word_delimiter_token,
            **normaliser,
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
