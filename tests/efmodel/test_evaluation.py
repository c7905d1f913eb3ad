"""WER and CER against an independent edit distance."""

import socket

import evaluate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.evaluation import CharacterErrorRate, WordErrorRate


def distance(a, b) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


words = st.lists(st.sampled_from(["one", "two", "six"]), min_size=1, max_size=5).map(" ".join)
pairs = st.lists(st.tuples(words, st.one_of(words, st.just(""))), min_size=1, max_size=4)


@given(pairs)
def test_error_rates_are_edits_over_reference_units(examples):
    references, predictions = zip(*examples, strict=True)
    wer = WordErrorRate().compute(predictions=predictions, references=references)
    cer = CharacterErrorRate().compute(predictions=predictions, references=references)
    edits = sum(distance(r.split(), p.split()) for r, p in examples)
    assert wer["errors"] == edits and wer["words"] == sum(len(r.split()) for r in references)
    assert wer["wer"] == pytest.approx(edits / wer["words"])
    assert cer["errors"] == sum(distance(r, p) for r, p in examples)
    assert cer["characters"] == sum(map(len, references))


def test_words_are_characters_in_scripts_without_spaces():
    references, predictions = ["今天天气 ok", "two words"], ["今天大气 ok", "two word"]
    counts = WordErrorRate().compute(predictions=predictions, references=references)
    assert (counts["errors"], counts["words"]) == (2, 7)
    unspaced = WordErrorRate().compute(predictions=["今 天"], references=["今天"])
    assert unspaced["errors"] == 0


def test_no_network_is_touched(monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert WordErrorRate().compute(predictions=["a"], references=["a b"])["wer"] == 0.5


def test_no_cache_is_needed(tmp_path, monkeypatch):
    """Another user's home, or none: a folder below a file cannot be made."""
    (tmp_path / "home").touch()
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "home" / "metrics")
    assert WordErrorRate().compute(predictions=["a"], references=["a b"])["wer"] == 0.5
    assert CharacterErrorRate().compute(predictions=["a"], references=["ab"])["cer"] == 0.5
