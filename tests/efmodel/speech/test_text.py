"""Text to labels and back."""

from string import ascii_lowercase, ascii_uppercase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from efmodel import EarlyExitForCTC
from efmodel.model import loading
from efmodel.speech import text, vocabulary
from tests.conftest import small_config

TOKENIZER = vocabulary.tokenizer_from(vocabulary.CHARACTERS)
BPE = vocabulary.of_preset("paper")
# As facebook/wav2vec2-base-960h has them, with other names for some, as checkpoints' authors do.
SHOUTING = vocabulary.tokenizer_from(
    {t: i for i, t in enumerate(["[PAD]", "<s>", "</s>", "[UNK]", "|", *ascii_uppercase, "'"])},
    pad_token="[PAD]",
    unk_token="[UNK]",
    bos_token="<s>",
    eos_token="</s>",
)
every_tokenizer = pytest.mark.parametrize(
    "tokenizer", [TOKENIZER, BPE, SHOUTING], ids=["characters", "bpe", "upper case"]
)


def logits_of(labels: list[int], tokenizer) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([labels]), len(tokenizer)).float()


def test_text_is_normalised_and_what_is_dropped_is_counted():
    words, dropped = text.normalise("Héllo—it’s  3 O'CLOCK | ok?", TOKENIZER)
    assert words == "hello it's o'clock ok"
    assert dropped == {"3": 1, "?": 1, "|": 1}


def test_text_is_folded_to_the_case_that_the_vocabulary_has():
    assert text.normalise("Héllo it’s ß", SHOUTING) == ("HELLO IT'S SS", {})
    assert text.normalise("HÉLLO It’s ß", BPE) == ("hello it's", {"ß": 1})


@every_tokenizer
@given(raw=st.text(max_size=40) | st.text(ascii_lowercase + "ABC' -é", max_size=40))
def test_normalised_text_survives_encoding_and_is_stable(tokenizer, raw):
    words, _ = text.normalise(raw, tokenizer)
    assert text.normalise(words, tokenizer)[0] == words
    labels = text.encode(words, tokenizer)
    assert not {tokenizer.unk_token_id, tokenizer.pad_token_id} & set(labels)
    frames = [x for label in labels for x in (label, label, tokenizer.pad_token_id)]
    logits = logits_of(frames or [0], tokenizer)
    assert text.decode_greedily(logits, torch.tensor([len(frames)]), tokenizer) == [words]


@every_tokenizer
def test_a_repeat_is_one_label_unless_a_blank_stands_between(tokenizer):
    one = text.encode(text.normalise("a", tokenizer)[0], tokenizer)
    blank, letter = tokenizer.pad_token_id, one[-1]
    frames = [letter, letter, blank, blank, letter, tokenizer.unk_token_id]
    heard = text.decode_greedily(logits_of(frames, tokenizer), torch.tensor([6]), tokenizer)
    mark = vocabulary.boundary(tokenizer)
    piece = tokenizer.convert_ids_to_tokens(letter).replace(mark, " ")
    assert heard == [(2 * piece).strip()]


def test_decoding_stops_at_an_utterances_own_end():
    labels = text.encode("one", TOKENIZER)
    logits = logits_of(labels + labels, TOKENIZER)
    assert text.decode_greedily(logits, torch.tensor([3]), TOKENIZER) == ["one"]


def test_ctc_needs_a_blank_between_equal_neighbours():
    assert text.min_frames(text.encode("three", TOKENIZER)) == 6
    assert text.min_frames([]) == 0


def test_pieces_of_words_are_256_and_need_fewer_frames():
    assert len(BPE) == 256 and BPE.pad_token_id == 0
    words = "there is nothing that we can't say with these letters"
    letters, pieces = text.encode(words, TOKENIZER), text.encode(words, BPE)
    assert len(pieces) < len(letters) / 2
    assert text.min_frames(pieces) == len(pieces)  # each of these differs from its neighbour
    assert text.min_frames(text.encode("aaa", BPE)) == 4  # "_a", and "a" twice with a blank


@every_tokenizer
def test_a_tokenizer_travels_as_json(tokenizer):
    arrived = vocabulary.from_json(vocabulary.to_json(tokenizer))
    assert vocabulary.to_json(arrived) == vocabulary.to_json(tokenizer)
    assert arrived.get_vocab() == tokenizer.get_vocab()
    words, _ = text.normalise("It's quite okay", tokenizer)
    labels = text.encode(words, tokenizer)
    assert text.encode(words, arrived) == labels
    noisy = [tokenizer.pad_token_id, tokenizer.unk_token_id, *labels]
    assert text.spell(noisy, arrived) == text.spell(noisy, tokenizer) == words


@every_tokenizer
def test_the_tokenizer_is_saved_beside_the_model(tokenizer, tmp_path):
    EarlyExitForCTC(small_config(vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    _, by_us = loading.load(tmp_path, exit=1)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), by_us):
        assert vocabulary.to_json(loaded) == vocabulary.to_json(tokenizer)
        words, _ = text.normalise("it's ok", loaded)
        assert text.spell(text.encode(words, loaded), loaded) == words
