"""The beam search finds the best labelling that there is: all paths of tiny inputs are tried."""

import gc
import itertools
import math
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding import beam
from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError
from efmodel.speech import vocabulary
from efmodel.speech.text import decode_greedily, encode
from tests.efmodel.decoding.test_arpa import ARPA

TOKENS = ["<pad>", "|", "a", "b"]
LABELS = Tokens(tuple(TOKENS), 0, "|", frozenset())
EXACT = {"beam_width": 10_000, "min_log_prob": -math.inf}


def log_softmax(logits) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def logits(frames=4):
    value = st.floats(-6, 6, width=32)
    row = st.lists(value, min_size=len(TOKENS), max_size=len(TOKENS))
    return st.lists(row, min_size=1, max_size=frames)


def labellings(log_probs) -> dict[tuple[int, ...], float]:
    """Return the probability of every labelling: the sum over all its paths."""
    probs = defaultdict(float)
    frames, labels = log_probs.shape
    for path in itertools.product(range(labels), repeat=frames):
        labelling = tuple(label for label, _ in itertools.groupby(path) if label)
        probs[labelling] += math.exp(sum(row[k] for row, k in zip(log_probs, path, strict=True)))
    return probs


def text_of(labelling) -> str:
    return "".join(TOKENS[label] for label in labelling).replace("|", " ")


def lm_score(words: list[str], lm_weight: float, word_bonus: float, hot: set[str]) -> float:
    """Return what ARPA's model adds to a text, by the format's definition."""
    lines = [line.split("\t") for line in ARPA.splitlines() if "\t" in line]
    known = {
        tuple(fields[1].split()): [float(f) for f in (fields[0], *fields[2:])] for fields in lines
    }

    def log10(history, word):
        if (*history, word) in known:
            return known[*history, word][0]
        backoff = (known.get(history, [0]) + [0])[1]
        return backoff + log10(history[1:], word)

    history, score = ("<s>",), 0.0
    for word in (*words, "</s>"):
        seen = word if (word,) in known else "<unk>"
        score += lm_weight * math.log(10) * log10(history[-2:], seen)
        score += word_bonus * (word != "</s>")
        if seen == "<unk>" and word not in hot:
            score += beam.UNKNOWN_PENALTY
        history = (*history, seen)
    return score


@settings(deadline=None, max_examples=60)
@given(logits())
def test_the_most_probable_labelling_is_found(values):
    log_probs = log_softmax(values)
    probs = labellings(log_probs)
    best = BeamSearch(LABELS, **EXACT).search(log_probs)
    assert best.score == pytest.approx(math.log(max(probs.values())), abs=1e-4)
    assert probs[tuple(best.labels)] == pytest.approx(max(probs.values()), rel=1e-4)
    assert best.text == " ".join(text_of(best.labels).split())


@settings(deadline=None, max_examples=60)
@given(
    logits(),
    st.sets(st.sampled_from(["a", "b", "ab", "ba", "aa"])),
    st.floats(0, 2),
    st.floats(-2, 2),
    st.floats(0, 3),
)
def test_the_best_sum_with_language_model_and_hot_words_is_found(
    tmp_path_factory, values, hot, lm_weight, word_bonus, hot_word_weight
):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    path.write_text(ARPA)
    log_probs = log_softmax(values)
    scores = {}
    for labelling, prob in labellings(log_probs).items():
        words = text_of(labelling).split()
        bonus = hot_word_weight * sum(len(word) for word in words if word in hot)
        scores[labelling] = math.log(prob) + lm_score(words, lm_weight, word_bonus, hot) + bonus
    best = BeamSearch(
        LABELS,
        language_model=path,
        hot_words=hot,
        lm_weight=lm_weight,
        word_bonus=word_bonus,
        hot_word_weight=hot_word_weight,
        **EXACT,
    ).search(log_probs)
    assert best.score == pytest.approx(max(scores.values()), abs=1e-3)
    assert scores[tuple(best.labels)] == pytest.approx(best.score, abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(logits(frames=8))
def test_a_narrow_beam_finds_a_labelling_with_no_better_score(values):
    log_probs = log_softmax(values)
    exact = BeamSearch(LABELS, **EXACT).search(log_probs)
    narrow = BeamSearch(LABELS, beam_width=3).search(log_probs)
    assert narrow.score <= exact.score + 1e-6


def spoken(text: str, tokenizer, others: dict[str, dict[str, float]] | None = None) -> np.ndarray:
    """Return log-probs of a text, two frames a label; ``others`` makes some letters doubtful."""
    rows = []
    for label in encode(text, tokenizer):
        row = np.full(len(tokenizer), 1e-4)
        token = tokenizer.convert_ids_to_tokens(label)
        for other, prob in (others or {}).get(token, {token: 0.9}).items():
            row[tokenizer.convert_tokens_to_ids(other)] = prob
        blank = np.full(len(tokenizer), 1e-4)
        blank[tokenizer.pad_token_id] = 0.95
        rows += [row, blank]
    probs = np.array(rows)
    return np.log(probs / probs.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("preset", ["tiny", "paper"])  # characters, subwords
@pytest.mark.parametrize("text", ["hello world", "a bee see", ""])
def test_clear_speech_gives_the_greedy_text(preset, text):
    tokenizer = vocabulary.of_preset(preset)
    log_probs = spoken(text, tokenizer) if text else spoken("a", tokenizer)[:0]
    greedy = decode_greedily(
        torch.tensor(log_probs)[None], torch.tensor([len(log_probs)]), tokenizer
    )
    assert BeamSearch.of_tokenizer(tokenizer)(log_probs) == greedy[0] == text


def test_a_large_vocabulary_is_searched_among_its_likely_labels():
    log_probs = log_softmax(np.random.default_rng(0).normal(size=(20, 3000)) / 10)
    log_probs[:, 0] += 9
    log_probs[[3, 9], [7, 2999]] = 5
    tokens = ("<pad>", "|", *map(chr, range(0x4E00, 0x4E00 + 2998)))
    search = BeamSearch(Tokens(tokens, 0, "|", frozenset()), beam_width=4)
    assert search(log_softmax(log_probs)) == tokens[7] + tokens[2999]


def test_special_tokens_are_not_written():
    search = BeamSearch(Tokens(("a", "<unk>", "<pad>", "|"), 2, "|", frozenset([1])))
    log_probs = log_softmax(9 * np.eye(4)[[3, 0, 1, 3, 3, 2, 3, 0]])
    assert search(log_probs) == "a a"


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_a_hot_word_wins_where_it_was_nearly_heard(preset):
    tokenizer = vocabulary.of_preset(preset)
    others = {"k": {"c": 0.7, "k": 0.02}, "y": {"i": 0.7, "y": 0.02}}
    text = "call kay now"
    log_probs = spoken(
        text,
        tokenizer,
        others
        if preset == "tiny"
        else {
            "\u2581k": {"\u2581c": 0.7, "\u2581k": 0.02},
            "ay": {"ai": 0.7, "ay": 0.02},
        },
    )
    assert BeamSearch.of_tokenizer(tokenizer)(log_probs) != text
    assert BeamSearch.of_tokenizer(tokenizer, ["Kay!"], hot_word_weight=3.0)(log_probs) == text
    other = spoken("the car was new", tokenizer)
    assert BeamSearch.of_tokenizer(tokenizer, ["Kay"])(other) == "the car was new"


def test_a_language_model_chooses_among_words_that_sound_alike(tmp_path):
    from efmodel.decoding.make_lm import ngram_model, write_arpa

    tokenizer = vocabulary.of_preset("tiny")
    path = tmp_path / "lm.arpa"
    with path.open("w") as file:
        write_arpa(ngram_model(["the sea is blue", "i see the sea", "you see it"], 3), file)
    log_probs = spoken("the see is blue", tokenizer, {"e": {"e": 0.6, "a": 0.3}})
    assert BeamSearch.of_tokenizer(tokenizer)(log_probs) == "the see is blue"
    search = BeamSearch.of_tokenizer(tokenizer, language_model=path)
    assert search(log_probs) == "the sea is blue"
    assert search(spoken("the zebra is blue", tokenizer)) == "the zebra is blue"  # was clear


def test_characters_are_words_in_scripts_without_spaces(tmp_path):
    from efmodel.decoding.make_lm import ngram_model, write_arpa

    path = tmp_path / "lm.arpa"
    with path.open("w") as file:
        write_arpa(ngram_model(["\u5728\u6771\u4eac"] * 3 + ["\u6771\u897f"], 3), file)
    characters = ("<pad>", "|", "\u5728", "\u6771", "\u4eac", "\u897f")
    tokens = Tokens(characters, 0, "|", frozenset())
    log_probs = log_softmax(
        np.log(
            [
                [0.1, 0.01, 0.8, 0.03, 0.03, 0.03],
                [0.1, 0.01, 0.03, 0.8, 0.03, 0.03],
                [0.1, 0.01, 0.03, 0.03, 0.38, 0.42],
            ]
        )
    )
    assert BeamSearch(tokens)(log_probs) == "\u5728\u6771\u897f"
    assert BeamSearch(tokens, language_model=path)(log_probs) == "\u5728\u6771\u4eac"
    assert BeamSearch(tokens, hot_words=["\u6771\u4eac"])(log_probs) == "\u5728\u6771\u4eac"


def test_hot_words_and_models_in_other_characters_are_errors(tmp_path):
    with pytest.raises(UserError, match="hot words: found 'c\xe4b', wanted .* without c\xe4"):
        BeamSearch(LABELS, hot_words=["c\xe4b"])
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace("a", "A").replace("b", "B").replace(r"\dAtA", r"\data"))
    path.write_text(path.read_text().replace("ngrAm", "ngram").replace("-grAms", "-grams"))
    with pytest.raises(UserError, match="found words such as 'B', wanted words in the characters"):
        BeamSearch(LABELS, language_model=path)


def test_memory_does_not_grow_with_dead_labellings(monkeypatch):
    search = BeamSearch(LABELS, beam_width=8)
    made, alive = 0, 0

    def extended(*args):
        nonlocal made
        made += 1
        return BeamSearch._extended(search, *args)

    def final(prefix):
        nonlocal alive
        if not alive:
            gc.collect()
            alive = sum(type(each) is beam._Prefix for each in gc.get_objects())
        return BeamSearch._final(search, prefix)

    monkeypatch.setattr(search, "_extended", extended)
    monkeypatch.setattr(search, "_final", final)
    best = search.search(log_softmax(np.random.default_rng(0).normal(size=(2000, 4))))
    assert alive < len(best.labels) + 2 * beam._FORGET_EVERY * search.beam_width < made / 3


def test_neither_torch_nor_transformers_is_imported(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA)
    code = f"""
import sys, numpy
from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.words import Tokens
tokens = Tokens({tuple(TOKENS)}, 0, "|", frozenset())
BeamSearch(tokens, language_model={str(tmp_path / "lm.arpa")!r}, hot_words=["ab"])(
    numpy.log(numpy.full((5, 4), 0.25)))
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
