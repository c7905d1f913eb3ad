"""Language models are read from ARPA files, with back-off; bad files are explained."""

import gzip
import math

import pytest

from efmodel.decoding.arpa import ArpaError, LanguageModel

ARPA = r"""
\data\
ngram 1=5
ngram 2=4
ngram 3=1

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-0.5	</s>
-0.6	a	-0.2
-0.7	b	-0.1

\2-grams:
-0.2	<s> a	-0.05
-0.3	a b	-0.4
-0.4	b </s>
-0.35	b b

\3-grams:
-0.1	<s> a b

\end\
""".lstrip()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "words.arpa"
    file.write_text(ARPA)
    return file


def log10_probs(model: LanguageModel, words: str) -> list[float]:
    state, scores = model.start, []
    for word in words.split():
        score, state, _ = model.score(state, word)
        scores.append(score)
    return [score / math.log(10) for score in (*scores, model.end(state))]


@pytest.mark.parametrize(
    "words, expected",
    [
        # <s> a and <s> a b stand there; a b </s> backs off from "a b" to "b </s>"
        ("a b", [-0.2, -0.1, -0.4 - 0.4]),
        # <s> b backs off to b; b </s> stands there
        ("b", [-0.3 - 0.7, -0.4]),
        # a b b backs off to b b
        ("a b b", [-0.2, -0.1, -0.4 - 0.35, -0.4]),
        # <s> a a backs off from "<s> a" and from "a"
        ("a a", [-0.2, -0.05 - 0.2 - 0.6, -0.2 - 0.5]),
        # an unknown word backs off to <unk>, and no n-gram goes through it
        ("a q b", [-0.2, -0.05 - 0.2 - 1.0, -0.7, -0.4]),
        ("", [-0.3 - 0.5]),
    ],
)
def test_log_probs_with_back_off_computed_by_hand(path, words, expected):
    assert log10_probs(LanguageModel(path), words) == pytest.approx(expected, abs=1e-5)


def test_words_are_known_by_their_starts(path):
    path.write_text(
        ARPA.replace("\ta\t", "\tabc\t").replace(" a", " abc").replace("\ta ", "\tabc ")
    )
    model = LanguageModel(path)
    assert model.words == ["abc", "b"]
    assert model.has_prefix("ab") and model.has_prefix("abc") and model.has_prefix("b")
    assert not model.has_prefix("ac") and not model.has_prefix("abcd") and not model.has_prefix("c")
    assert not model.has_prefix("<s")
    assert [model.score(model.start, word)[2] for word in ("abc", "ab", "<unk>")] == [True, 0, 0]


def test_a_packed_file_gives_the_same(path, tmp_path):
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    assert log10_probs(LanguageModel(packed), "a b") == log10_probs(LanguageModel(path), "a b")


def test_an_unknown_word_has_a_finite_price_without_unk(path):
    path.write_text(ARPA.replace("-1.0\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4"))
    assert log10_probs(LanguageModel(path), "q")[0] == pytest.approx(-7)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (r"\data", "data", r"line 1: found 'data\\', wanted \data\ at the start"),
        ("ngram 2=4", "ngrams 2", r"line 3: found 'ngrams 2', wanted 'ngram ORDER=COUNT'"),
        ("-0.6\ta", "-0.6 a", "line 10: found '-0.6 a\\t-0.2', wanted LOG10-PROBABILITY tab 1"),
        ("ngram 1=5", "ngram 1=6", "line 12: found '', wanted LOG10-PROBABILITY tab WORD"),
        ("ngram 1=5", "ngram 1=4", "line 11: found '-0.7\\tb\\t-0.1', wanted"),
        ("-0.6\ta", "0.6\ta", "line 10: found '0.6\\ta\\t-0.2', wanted LOG10-PROBABILITY tab 1"),
        ("-0.3\ta b", "x\ta b", "line 15: found 'x\\ta b\\t-0.4', wanted LOG10-PROBABILITY tab 2"),
        ("b\t-0.4", "b\tx", "line 15: found '-0.3\\ta b\\tx', wanted"),
        ("a b\t-0.4", "a zz\t-0.4", "line 15: found '-0.3\\ta zz\\t-0.4', wanted"),
        ("ngram 2=4", "ngram 2=5", r"line 19: found '\\3-grams:', wanted LOG10-PROBABILITY tab 2"),
        ("ngram 2=4", "ngram 2=3", "line 17: found '-0.35\\tb b', wanted"),
        ("\\end\\\n", "", r"wanted \end\ after the last n-gram"),
        (ARPA[ARPA.index("\\1-") :], "", r"found no line '\1-grams:'"),
        ("-0.5\t</s>", "-0.5\t</t>", "</s>"),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(path, old, new, message):
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(ArpaError) as error:
        LanguageModel(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert ".cc" not in str(error.value)


def test_other_files_are_errors(tmp_path):
    broken = tmp_path / "broken"
    for content, message in (
        (None, "found no readable file"),
        (b"", "found ''"),
        (b"mmap lm http://kheafield.com/code", "found a binary file of KenLM"),
        (gzip.compress(ARPA.encode())[:80], "found a damaged gzip file"),
        (ARPA.replace("a\t", "\xe9\t").encode("latin-1"), "in UTF-8"),
    ):
        if content is not None:
            broken.write_bytes(content)
        with pytest.raises(ArpaError, match=message):
            LanguageModel(broken)
