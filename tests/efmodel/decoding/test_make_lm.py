"""A language model from texts: its probabilities add up to 1, and KenLM reads it."""

import io
import math
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from efmodel.decoding.arpa import LanguageModel
from efmodel.decoding.make_lm import END, START, UNKNOWN, make_lm, ngram_model, write_arpa
from efmodel.errors import UserError

SAVED = Path(__file__).parents[2] / "data" / "run-0.1.0"  # a model with English characters
SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), min_size=1).map(" ".join), min_size=1)


def prob(model, history, word) -> float:
    """Return the probability that the format defines, independently of KenLM."""
    if (*history, word) in model[len(history)]:
        return model[len(history)][*history, word].prob
    backoff = model[len(history) - 1][history].backoff if history in model[len(history) - 1] else 1
    return backoff * prob(model, history[1:], word)


@settings(deadline=None)
@given(SENTENCES, st.integers(2, 4))
def test_probabilities_after_every_history_add_up_to_1(sentences, order):
    model = ngram_model(sentences, order)
    words = [word for (word,) in model[0] if word != START]
    assert UNKNOWN in words and END in words
    histories = [h for ngrams in model[:-1] for h in ngrams if h[-1] != END]
    for history in [(), (START, "zz"), *histories]:
        if len(history) < order:
            assert sum(prob(model, history, w) for w in words) == pytest.approx(1)
    assert all(0 < entry.prob <= 1 + 1e-9 for ngrams in model for entry in ngrams.values())


def test_kneser_ney_computed_by_hand():
    # 2-grams: <s> a (2), a b (1), a </s> (1), b </s> (1): D = 3 / (3 + 2) = 0.6
    # words before: a 1 (<s>), b 1 (a), </s> 2 (a, b): D = 2 / (2 + 2) = 0.5
    model = ngram_model(["a b", "a"], 2)
    below = 0.5 * 3 / 4 * 1 / 4  # uniform over a, b, </s>, <unk>
    assert model[0]["a",].prob == pytest.approx(0.5 / 4 + below)
    assert model[0][END,].prob == pytest.approx(1.5 / 4 + below)
    assert model[0][UNKNOWN,].prob == pytest.approx(below)
    assert model[0]["a",].backoff == pytest.approx(0.6 * 2 / 2)
    assert model[0][START,].backoff == pytest.approx(0.6 * 1 / 2)
    assert model[1]["a", "b"].prob == pytest.approx(0.4 / 2 + 0.6 * (0.5 / 4 + below))
    assert model[1][START, "a"].prob == pytest.approx(1.4 / 2 + 0.3 * (0.5 / 4 + below))


def test_kenlm_reads_the_same_probabilities(tmp_path):
    model = ngram_model(["the cat sat on the mat", "a dog", "the dog sat on a mat"], 3)
    with (tmp_path / "lm.arpa").open("w") as file:
        write_arpa(model, file)
    read = LanguageModel(tmp_path / "lm.arpa")
    for words in ("the cat", "a cat sat", "dog mat zz the", "the dog sat on"):
        state, history = read.start, (START,)
        for word in (*words.split(), END):
            score, state, known = read.score(state, word)
            expected = prob(model, history[-2:], word if known else UNKNOWN)
            assert score == pytest.approx(math.log(expected), abs=1e-4)
            history = (*history, word)


def test_characters_are_words_in_scripts_without_spaces():
    assert ("\u6771", "\u4eac") in ngram_model(["\u6771\u4eac"], 2)[1]


def test_texts_without_words_are_an_error():
    with pytest.raises(UserError, match="found no words"):
        ngram_model(["", " "])


def test_the_file_counts_what_it_holds():
    file = io.StringIO()
    write_arpa(ngram_model(["a b", "a"], 2), file)
    lines = file.getvalue().splitlines()
    assert lines[:3] == ["\\data\\", "ngram 1=5", "ngram 2=4"] and lines[-1] == "\\end\\"
    assert len([line for line in lines if "\t" in line]) == 9


def test_texts_are_written_in_the_characters_of_a_model(tmp_path):
    (tmp_path / "texts.txt").write_text("Caf\xe9, na\xefve", encoding="utf-8")
    make_lm([tmp_path / "texts.txt"], tmp_path / "lm.arpa", model=SAVED)
    assert LanguageModel(tmp_path / "lm.arpa").words == ["cafe", "naive"]


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_the_command_normalises_texts(tmp_path, name):
    app = typer.Typer()
    app.command()(make_lm)
    (tmp_path / "texts.txt").write_text("Hello, world!\n\nHELLO there.\n")
    output = tmp_path / name
    result = CliRunner().invoke(app, [str(tmp_path / "texts.txt"), "--output", str(output)])
    assert result.exit_code == 0 and "6 1-grams" in result.output, result.output
    assert LanguageModel(output).words == ["hello", "there", "world"]
    missing = CliRunner().invoke(app, [str(tmp_path / "none"), "--output", str(output)])
    assert missing.exit_code == 2 and "found no text in UTF-8" in missing.output
