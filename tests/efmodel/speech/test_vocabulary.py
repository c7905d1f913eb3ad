"""Tokenizers from the run config's ``vocabulary``."""

import json
from collections import Counter

import pytest
from transformers import AutoTokenizer

from efmodel.speech import languages, text, vocabulary
from efmodel.speech.normaliser import Normaliser
from efmodel.speech.spelling import Spelling
from efmodel.speech.vocabulary import VocabularyError, named

NEUTRAL = Normaliser()


def test_english_is_the_default_vocabulary_and_german_has_its_umlauts():
    assert vocabulary.to_json(named("en", NEUTRAL)) == vocabulary.to_json(
        vocabulary.of_preset("tiny")
    )
    german = named("de", NEUTRAL)
    assert text.normalise("Öl & Straße", german)[0] == "öl straße"
    assert {*"Äß"} < {*named("de", Normaliser(case="keep")).get_vocab()}
    assert text.normalise("Öl", named("de", Normaliser(case="keep")))[0] == "Öl"


def test_characters_are_those_that_are_written():
    tokenizer = named("characters:ab ا ba", NEUTRAL)
    assert list(tokenizer.get_vocab()) == ["<pad>", "<unk>", "|", "a", "b", "ا"]
    with pytest.raises(VocabularyError, match="found '|', which stands between words"):
        named("characters:ab|", NEUTRAL)


def test_a_files_characters_or_tokens_or_tokenizer(tmp_path):
    letters = tmp_path / "letters.txt"
    letters.write_text("\ufeffا ب\nت\n", encoding="utf-8")
    assert list(named(str(letters), NEUTRAL).get_vocab())[3:] == ["ا", "ب", "ت"]
    tokens = tmp_path / "vocab.json"
    tokens.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "z": 3, "a": 4}))
    assert text.encode("za", named(str(tokens), NEUTRAL)) == [3, 4]
    pieces = tmp_path / "tokenizer.json"
    pieces.write_bytes(vocabulary.BPE256.read_bytes())
    paper = vocabulary.of_preset("paper")
    assert vocabulary.to_json(named(str(pieces), NEUTRAL)) == vocabulary.to_json(paper)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"a": 0}', "found 1 entries, wanted tokens with the indices from 0, <pad>"),
        ('{"<pad>": 0, "<unk>": 1, "|": 7}', "found 3 entries"),
        ('{"model": {}}', "found no readable tokenizer"),
        (" \n", "found no characters"),
        (b"\xff\xfe", "found no text in UTF-8"),
        (None, "found no text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_vocabulary_is_named(content, found, tmp_path):
    file = tmp_path / "vocab.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VocabularyError, match=found) as error:
        named(str(file), NEUTRAL)
    assert str(file) in str(error.value)


def test_pieces_are_learned_from_a_text_on_the_server(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("Die 3 Größen größer, die Größten!\n" * 20, encoding="utf-8")
    tokenizer = named(f"bpe:{file}:40", Normaliser("de"))
    assert 14 < len(tokenizer) <= 40 and tokenizer.pad_token_id == 0
    words, dropped = text.normalise("Größe 3", tokenizer)
    assert words == "größe drei" and not dropped
    labels = text.encode(words, tokenizer)
    assert text.spell(labels, tokenizer) == words and len(labels) < len(words)
    with pytest.raises(VocabularyError, match=r"found 9 characters, wanted from 1 to 7, fewer"):
        named(f"bpe:{file}:10", Normaliser("de"))


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_normaliser_is_saved_and_sent_with_the_tokenizer(kind, tmp_path):
    wanted = Normaliser("de", case="keep", numbers="drop")
    default = vocabulary.of_preset("paper" if kind == "bpe" else "tiny")
    tokenizer = vocabulary.with_normaliser(default, wanted)
    assert vocabulary.normaliser_of(default) == NEUTRAL  # the one it was made from stays
    tokenizer.save_pretrained(tmp_path)
    arrived = vocabulary.from_json(vocabulary.to_json(tokenizer))
    for each in (arrived, AutoTokenizer.from_pretrained(tmp_path)):
        assert vocabulary.normaliser_of(each) == wanted
        assert vocabulary.to_json(each) == vocabulary.to_json(tokenizer)


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_a_node_spells_without_transformers_as_with_it(name):
    tokenizer = vocabulary.with_normaliser(vocabulary.of_preset(name), Normaliser("en"))
    light = Spelling.of_description(vocabulary.to_json(tokenizer))
    assert light.characters == vocabulary.single_letters(tokenizer)
    assert light.spell("Café 3!").words == text.normalise("Café 3!", tokenizer)[0] == "cafe three"


def test_texts_in_the_default_characters_keep_the_default_tokenizer():
    for name in ("tiny", "paper"):
        default = vocabulary.of_preset(name)
        assert vocabulary.of_texts([Counter("one"), Counter("it's")], 1, default)[0] is default
    other, left_out = vocabulary.of_texts([Counter("öl"), Counter("öde"), Counter("ж")], 2, default)
    assert {*"ölz'"} < {*other.get_vocab()} and left_out == {"ж": 1}


@pytest.mark.parametrize("code", languages.known())
def test_every_alphabet_is_spelt_and_read_back(code):
    tokenizer = named(code, Normaliser(code))
    letters = sorted(languages.get(code).alphabet() - {"'"})[:60]
    words, _ = text.normalise("".join(letters) + " " + letters[-1], tokenizer)
    labels = text.encode(words, tokenizer)
    assert text.spell(labels, tokenizer) == words and tokenizer.unk_token_id not in labels
    assert text.normalise(words, tokenizer)[0] == words


def test_chinese_is_read_and_written(tmp_path):
    tokenizer = named("zh", Normaliser("zh"))
    words, _ = text.normalise("今天 5 点，好。", tokenizer)
    assert words == "今天五点好"
    assert text.spell(text.encode(words, tokenizer), tokenizer) == words
    assert "3755 characters" in vocabulary.described(tokenizer)
