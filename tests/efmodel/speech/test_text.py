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


def characters(tokens: str):
    """Return a tokenizer whose vocabulary is these characters."""
    return vocabulary.tokenizer_from({t: i for i, t in enumerate(["<pad>", "<unk>", "|", *tokens])})


def test_text_is_folded_to_the_case_that_the_vocabulary_has():
    assert text.normalise("Héllo it’s", SHOUTING) == ("HELLO IT'S", {})
    assert text.normalise("HÉLLO It’s", BPE) == ("hello it's", {})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        # Punctuation separates words, an apostrophe inside a word does not.
        ("Well...I think", "well i think"),
        ("yes.No", "yes no"),
        ("stop,go!now?yes;no:ok", "stop go now yes no ok"),
        ("one\u2014two\u2026three\u201cfour\u201d", "one two three four"),
        ("rock&roll, either/or, well-known", "rock roll either or well known"),
        ("it's o\u2019clock, rock\u02bcn\uff07roll", "it's o'clock rock'n'roll"),
        ("co\u00adoperate zero\u200bwidth", "cooperate zerowidth"),
        # Tags are no speech.
        ("<unk> hello", "hello"),
        ("hello [laughter] world<noise>again</s>", "hello world again"),
        ("[unintelligible 00:12] yes", "yes"),
        ("2 < 3 > 1 yes", "yes"),
        # Letters that Unicode can spell otherwise.
        ("Stra\u00dfe \u1e9e", "strasse ss"),
        ("\ufb01ne o\ufb03ce", "fine office"),
        ("\uff28\uff45\uff4c\uff4c\uff4f", "hello"),
        ("\u0141\u00f3d\u017a \u00d8re \u0110uro \u0127al", "lodz ore duro hal"),
        ("\u00c6on c\u0153ur \u0132sland", "aeon coeur ijsland"),
        ("\u00deing \u00f0at \u014ba", "thing dat nga"),
        ("\u0130stanbul \u0131l\u0131k", "istanbul ilik"),
        ("na\u00efve na\u0069\u0308ve \u1ed3 \u01fe", "naive naive o o"),
        ("\u33d5", "mil"),
        # What it cannot.
        ("\u4e16hello\u754c \u0447", "hello"),
    ],
)
def test_text_becomes_words_in_the_alphabet(raw, words):
    assert text.normalise(raw, TOKENIZER)[0] == words
    assert text.normalise(raw, SHOUTING)[0] == words.upper()


def test_dropped_tags_are_counted_beside_characters():
    assert text.normalise("<unk> a 7 <unk> [x y]", TOKENIZER)[1] == {"<unk>": 2, "[x y]": 1, "7": 1}


def test_one_letter_of_the_other_case_does_not_change_the_case_of_the_rest():
    german = characters(ascii_uppercase + "\u00c4\u00df")
    assert text.normalise("Straße Äpfel é", german) == ("STRAßE ÄPFEL E", {})
    assert text.normalise("Straße", characters(ascii_lowercase + "É"))[0] == "strasse"


def test_apostrophes_become_the_one_that_the_vocabulary_has():
    assert text.normalise("it's o’clock", characters(ascii_lowercase + "’"))[0] == "it’s o’clock"
    assert text.normalise("it's o’clock", characters(ascii_lowercase + "’'"))[0] == "it's o'clock"
    assert text.normalise("it's o’clock", characters(ascii_lowercase)) == ("its oclock", {"'": 2})


def test_other_scripts_keep_their_letters():
    greek = characters("αβγδεζηθικλμνξοπρστυφχψως")
    assert text.normalise("ΣΟΦΌΣ;ναι", greek)[0] == "σοφος ναι"
    arabic = characters("ابتسلام")
    assert text.normalise("\u0633\u064e\ufefc\u0645\u060c\u0623\u0628", arabic)[0] == "سلام اب"


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
