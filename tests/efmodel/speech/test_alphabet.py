"""Which characters texts use, which of them a vocabulary gets, and what it loses."""

from collections import Counter
from string import ascii_lowercase

import pytest

from efmodel.speech import alphabet
from efmodel.speech.alphabet import Source, choose, count, every_letter, source, warning
from efmodel.speech.normaliser import Normaliser
from efmodel.speech.spelling import Spelling

NEUTRAL = Normaliser()


def used(*texts: str, normaliser: Normaliser = NEUTRAL) -> Counter[str]:
    return count(texts, every_letter(normaliser)).alphabet


def kept(*nodes: Counter[str], min_nodes: int = 2, normaliser: Normaliser = NEUTRAL) -> str:
    return "".join(sorted(choose(nodes, min_nodes, normaliser).kept))


def test_letters_marks_and_digits_are_counted_and_nothing_else():
    found = used("Añ 3 cafés! 😀", "“it’s” 'so'", "हि", None, "")
    assert found == Counter("añ3cafésit'ssoहि")


def test_a_character_needs_enough_nodes():
    arabic = [used("خلف"), used("خلا"), used("خلك")]
    assert kept(*arabic) == "خل"
    assert kept(*arabic, min_nodes=1) == "".join(sorted("خلفاك"))
    assert choose(arabic, 2, NEUTRAL).dropped == {"ف": 1, "ا": 1, "ك": 1}
    assert kept(used("خلف")) == "".join(sorted("خلف"))  # fewer nodes than that: all of them
    assert kept() == ""


def test_latin_letters_come_with_all_of_a_to_z():
    assert kept(used("one"), used("two")) == "'" + ascii_lowercase
    assert kept(used("öde"), used("böse")) == "'" + ascii_lowercase + "ö"
    assert kept(used("öl"), used("ode")) == "'" + ascii_lowercase
    capitals = kept(used("Ab", normaliser=Normaliser(case="keep")), min_nodes=1)
    assert {*"AZaz"} < {*capitals}


def test_a_language_brings_its_alphabet():
    german = Normaliser("de")
    assert kept(used("one"), used("two"), normaliser=german) == "'" + ascii_lowercase + "ßäöü"
    assert {*"Ä"} < {*kept(used("a"), normaliser=Normaliser("de", case="keep"))}


def test_a_rare_accent_is_spelt_without_but_no_rare_letter_of_another_script():
    english = used(*["an ordinary text of many letters"] * 800, "café", "жук")
    assert kept(english, english, min_nodes=2) == "'" + ascii_lowercase + "жку"
    french = used(*["été ordinaire"] * 50, "çà")
    assert {*"éçà"} < {*kept(french, french)}


def test_nonsense_from_a_node_is_not_kept():
    assert kept(Counter({"a b": 3, "|": 9, "!": 1, "<pad>": 5, "ﬁ": 1, "ж": 2})) == "ж"


def test_what_a_vocabulary_loses_is_counted():
    spelling = Spelling(ascii_lowercase)
    counted = count(["öl ab!", "жук", "ok", "?!", None], spelling)
    assert counted.numbers() == [3, 1, 9, 4]
    assert "loses 44.4% of 9 letters" in warning(counted)
    assert "1 of 3 recordings wholly" in warning(counted)
    both = counted + count(["a" * 1000], spelling)
    assert both.numbers() == [4, 1, 1009, 4] and "loses 0.4% of 1,009 letters" in warning(both)
    assert warning(count(["é" + "a" * 99], spelling)) == ""
    assert warning(count(["éé" + "a" * 98], spelling)) != ""
    assert warning(alphabet.TextCount()) == ""


@pytest.mark.parametrize(
    ("vocabulary", "wanted"),
    [
        ("auto", Source("auto")), ("de", Source("language", "de")),
        ("characters:abc '", Source("characters", "abc '")),
        ("bpe:a:b.txt:256", Source("bpe", "a:b.txt", 256)),
        ("vocab.json", Source("file", "vocab.json")), ("./letters", Source("file", "./letters")),
    ],
)  # fmt: skip
def test_the_forms_of_the_key(vocabulary, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source(vocabulary) == wanted
    whole = source(vocabulary).absolute()
    assert source(whole).kind == wanted.kind
    if wanted.kind in ("bpe", "file"):
        assert str(tmp_path) in whole
    else:
        assert whole == vocabulary


@pytest.mark.parametrize("vocabulary", ["germn", "", "characters:", "bpe:a.txt", "bpe::256", "x:y"])
def test_no_other_form_is_allowed(vocabulary):
    with pytest.raises(ValueError, match="vocabulary: found"):
        source(vocabulary)
