"""Beam search in the recogniser: its text, and where its labels are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import forced_align, merge_tokens

from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.decoder import Beam, Greedy, aligned
from efmodel.decoding.policy import ExitOutput
from efmodel.decoding.words import Tokens, text_of, words
from efmodel.speech import vocabulary

TOKENIZER = vocabulary.of_preset("tiny")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_aligning_the_greedy_labels_gives_the_greedy_frames(seed):
    """The most probable labelling of a very certain output lies where its labels are."""
    generator = np.random.default_rng(seed)
    path = generator.choice([0, 0, 3, 4, 5], 30)
    logits = np.full((30, 6), -20.0, np.float32)
    logits[np.arange(30), path] = 0
    log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()
    greedy = Greedy(0)
    wanted = greedy.labels([greedy.keep(ExitOutput(log_probs, 0), 0, None)])
    found = aligned(log_probs, [each.label for each in wanted], 0)
    assert [each[:3] for each in found] == [each[:3] for each in wanted]
    assert [each.log_prob for each in found] == pytest.approx([x.log_prob for x in wanted])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_the_alignment_is_that_of_torchaudio(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, 4, generator.integers(1, 9)).tolist()
    logits = generator.standard_normal((20, 4)).astype(np.float32)
    log_probs = torch.from_numpy(logits).log_softmax(-1)
    path, scores = forced_align(log_probs[None], torch.tensor([labels], dtype=torch.int32), blank=0)
    spans = merge_tokens(path[0], scores[0], blank=0)
    found = aligned(log_probs.numpy(), labels, 0)
    assert [each[:3] for each in found] == [(s.token, s.start, s.end) for s in spans]
    best = [scores[0][s.start : s.end].max().item() for s in spans]
    assert [each.log_prob for each in found] == pytest.approx(best)


def test_hot_words_change_the_text_and_its_words_have_times():
    """Frames that say "cat" a little more than "cut"."""
    frames = "..c.?.t.."
    probabilities = np.full((len(frames), len(TOKENIZER)), 1e-4, np.float32)
    for at, character in enumerate(frames):
        if character == "?":
            probabilities[at, TOKENIZER.convert_tokens_to_ids("a")] = 0.5
            probabilities[at, TOKENIZER.convert_tokens_to_ids("u")] = 0.4
        else:
            token = "<pad>" if character == "." else character
            probabilities[at, TOKENIZER.convert_tokens_to_ids(token)] = 0.99
    output = ExitOutput(np.log(probabilities / probabilities.sum(1, keepdims=True)), 0)
    for hot, said in (((), "cat"), (("cut",), "cut")):
        beam = Beam(BeamSearch.of_tokenizer(TOKENIZER, hot), 0)
        pieces = [beam.keep(output, 0, 5), beam.keep(output, 5, None)]
        found = words(beam.labels(pieces), Tokens.of(TOKENIZER), 0.04, 9 * 0.04)
        assert text_of(found) == said
        assert (found[0].start, found[0].end) == pytest.approx((2 * 0.04, 7 * 0.04))
        assert found[0].confidence == pytest.approx(0.5 if said == "cat" else 0.4, abs=0.06)
    assert beam.labels([]) == [] and aligned(output.log_probs, [], 0) == []
