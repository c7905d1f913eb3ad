"""Text to labels and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from efmodel import text

TOKENIZER = text.tokenizer_from(text.CHARACTERS)


def test_text_is_normalised_and_what_is_dropped_is_counted():
    words, dropped = text.normalise("Héllo—it’s  3 O'CLOCK | ok?", TOKENIZER)
    assert words == "hello it's o'clock ok"
    assert dropped == {"3": 1, "?": 1, "|": 1}


@given(st.text(max_size=40))
def test_normalised_text_survives_encoding_and_is_stable(raw):
    words, _ = text.normalise(raw, TOKENIZER)
    assert text.normalise(words, TOKENIZER)[0] == words
    labels = text.encode(words, TOKENIZER)
    assert TOKENIZER.unk_token_id not in labels
    frames = [x for label in labels for x in (label, TOKENIZER.pad_token_id)]
    logits = torch.nn.functional.one_hot(torch.tensor([frames or [0]]), len(TOKENIZER)).float()
    assert text.decode_greedily(logits, torch.tensor([len(frames)]), TOKENIZER) == [words]


def test_decoding_stops_at_an_utterances_own_end():
    labels = text.encode("one", TOKENIZER)
    logits = torch.nn.functional.one_hot(torch.tensor([labels + labels]), len(TOKENIZER)).float()
    assert text.decode_greedily(logits, torch.tensor([3]), TOKENIZER) == ["one"]


def test_ctc_needs_a_blank_between_equal_neighbours():
    assert text.min_frames(text.encode("three", TOKENIZER)) == 6
    assert text.min_frames([]) == 0


def test_the_tokenizer_is_saved_beside_the_model(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded("it's ok").input_ids == TOKENIZER("it's ok").input_ids
