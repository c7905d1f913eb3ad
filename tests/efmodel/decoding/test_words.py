"""Words with times and confidences, from the labels of frames."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding.policy import ExitOutput
from efmodel.decoding.words import Path, Tokens, labels_of, text_of, words
from efmodel.speech import vocabulary
from efmodel.speech.normaliser import Normaliser
from efmodel.speech.text import decode_greedily


def heard(frames: str, tokenizer, probability: float = 0.9) -> list:
    """The words of frames that each have one likely token; ``.`` is the blank."""
    labels = [tokenizer.convert_tokens_to_ids("<pad>" if c == "." else c) for c in frames]
    rest = (1 - probability) / (len(tokenizer) - 1)
    probabilities = np.full((len(labels), len(tokenizer)), rest, np.float32)
    probabilities[np.arange(len(labels)), labels] = probability
    output = ExitOutput(np.log(probabilities), tokenizer.pad_token_id)
    found = labels_of(Path.of(output), tokenizer.pad_token_id)
    return words(found, Tokens.of(tokenizer), 0.04, 0.04 * len(frames) - 0.01)


def test_words_have_the_times_of_their_frames(tokenizer):
    one, two = heard("..hh.i.|.y.oo..uu", tokenizer)
    assert (one.text, two.text) == ("hi", "you")
    assert (one.start, one.end) == pytest.approx((2 * 0.04, 6 * 0.04))
    assert (two.start, two.end) == pytest.approx((9 * 0.04, 17 * 0.04 - 0.01))  # not beyond the end
    assert one.confidence == pytest.approx(0.9)


def test_a_word_is_as_sure_as_its_least_certain_label(tokenizer):
    pad, a, b = (tokenizer.convert_tokens_to_ids(t) for t in ("<pad>", "a", "b"))
    path = Path(np.array([a, a, pad, b]), np.log(np.array([0.5, 0.9, 0.9, 0.6], np.float32)))
    [word] = words(labels_of(path, pad), Tokens.of(tokenizer), 0.04, 1.0)
    assert word.text == "ab" and word.confidence == pytest.approx(0.6)


def test_scripts_without_spaces_have_a_word_a_character():
    tokenizer = vocabulary.of_characters("你好ab", Normaliser())
    found = heard("你.好.a.b|你", tokenizer)
    assert [word.text for word in found] == ["你", "好", "ab", "你"]
    assert text_of(found) == "你好 ab 你"


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["characters", "pieces"]))
def test_the_words_are_the_greedy_text(seed, kind):
    preset = {"characters": "tiny", "pieces": "paper"}[kind]
    tokenizer = TOKENIZERS[preset]
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 40, len(tokenizer), generator=generator)
    logits[..., tokenizer.pad_token_id] += 2
    output = ExitOutput(logits[0].log_softmax(-1).numpy(), tokenizer.pad_token_id)
    found = words(labels_of(Path.of(output), output.blank), Tokens.of(tokenizer), 0.04, 1.6)
    assert text_of(found) == decode_greedily(logits, torch.tensor([40]), tokenizer)[0]
    times = [time for word in found for time in (word.start, word.end)]
    assert times == sorted(times)


TOKENIZERS = {name: vocabulary.of_preset(name) for name in ("tiny", "paper")}
