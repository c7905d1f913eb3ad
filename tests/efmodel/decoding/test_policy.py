"""Exit policies: when an utterance stops, and what is computed for it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding.policy import (
    SCORES,
    ExitOutput,
    ExitPolicy,
    StageCost,
    agreement,
    confidence,
    edit_distance,
    entropy,
    parse,
)
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.stages import run, stage_costs
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.stages import Engine
from tests.conftest import small_config

LAYER_TYPES = [{}, {"layer_type": "wavlm"}, {"layer_type": "conformer"}, {"frontend": "waveform"}]


def output(*probabilities: list[float]) -> ExitOutput:
    """The output of an exit with these rows of probabilities; label 0 is the blank."""
    return ExitOutput(np.log(np.array(probabilities, np.float32)), blank=0)


def recordings(*lengths: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal(n)).astype(np.float32) for n in lengths]


SURE = [0.01, 0.98, 0.01]
BLANK = [0.98, 0.01, 0.01]
UNSURE = [0.3, 0.4, 0.3]


def test_confidence_is_the_log_probability_of_a_label():
    assert confidence([output(SURE, BLANK)]) == pytest.approx(2 * np.log(0.98), rel=1e-5)
    assert confidence([output(UNSURE)]) == pytest.approx(np.log(0.4), rel=1e-5)


def test_silence_around_speech_hardly_changes_confidence():
    """A mean over frames would come closer to 0 with every frame of silence."""
    nearly = [1 - 2e-6, 1e-6, 1e-6]
    alone = confidence([output(UNSURE, BLANK, UNSURE)])
    in_silence = confidence([output(*[nearly] * 200, UNSURE, BLANK, UNSURE, *[nearly] * 200)])
    assert in_silence == pytest.approx(alone, abs=1e-3)
    assert entropy([output(*[nearly] * 200, UNSURE)]) > 0.1 * entropy([output(UNSURE)])


def test_a_recording_without_speech_is_certain_if_its_blanks_are():
    assert confidence([output(BLANK, BLANK)]) > -0.1
    assert confidence([output([0.4, 0.3, 0.3])]) < -0.9
    assert agreement([output(BLANK), output(BLANK, BLANK)]) == 0


def test_entropy_of_even_and_of_certain_frames():
    assert entropy([output([1 / 3] * 3)]) == pytest.approx(-np.log(3), rel=1e-5)
    certain = ExitOutput(np.array([[0.0, -np.inf]], np.float32), blank=1)
    assert entropy([certain]) == 0


def test_agreement_counts_the_labels_that_differ():
    one, other = output(SURE, BLANK, SURE), output(SURE, BLANK, [0.1, 0.1, 0.8])
    assert agreement([one]) == float("-inf")
    assert agreement([one, one]) == 0
    assert agreement([one, other]) == -0.5


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_edit_distance_against_jiwer(one, other):
    import jiwer

    if not one:
        assert edit_distance(one, other) == len(other)
        return
    counts = jiwer.process_words(" ".join(map(str, one)), " ".join(map(str, other)) or " ")
    assert edit_distance(one, other) == (
        counts.substitutions + counts.deletions + counts.insertions
    )


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 20), st.sampled_from(sorted(SCORES)))
def test_no_score_exceeds_0(seed, frames, name):
    generator = np.random.default_rng(seed)
    logits = torch.tensor(generator.normal(0, 5, (2, frames, 6)))
    exits = [ExitOutput(each.numpy(), 0) for each in logits.log_softmax(-1)]
    assert SCORES[name](exits) <= 0


@pytest.mark.parametrize("changes", LAYER_TYPES)
def test_stages_give_the_logits_of_forward(changes):
    """Each exit's log-probabilities, in a batch and with utterances that leave it."""
    torch.manual_seed(0)
    model = EarlyExitForCTC(small_config(**changes)).eval()
    speech = recordings(16_000, 9_000, 24_000)
    with torch.no_grad():
        wanted = [
            [x[0].log_softmax(-1).numpy() for x in model(torch.from_numpy(each)[None]).logits]
            for each in speech
        ]
    stages = Engine(model).start(speech)
    for row, frames in enumerate(stages.advance()):
        assert np.allclose(frames, wanted[row][0], atol=1e-4)
    stages.keep([0, 1])  # the longest leaves
    for row, frames in enumerate(stages.advance()):
        assert np.allclose(frames, wanted[row][1], atol=1e-4)
    stages.keep([1])
    [frames] = stages.advance()
    assert np.allclose(frames, wanted[1][2], atol=1e-4)
    [frames] = Engine(model).start(speech[1:2]).advance(to=3)
    assert np.allclose(frames, wanted[1][2], atol=1e-4)


@pytest.mark.parametrize("changes", LAYER_TYPES)
def test_layers_behind_the_stop_are_never_called(changes):
    torch.manual_seed(0)
    model = EarlyExitForCTC(small_config(**changes)).eval()  # exits after layers 1, 2 and 4
    rows: dict[str, list[int]] = {}

    def count(name):
        def hook(module, inputs, kwargs, output):
            rows.setdefault(name, []).append(len((*inputs, *kwargs.values())[0]))

        return hook

    for number, layer in enumerate(model.encoder.layers, start=1):
        layer.register_forward_hook(count(f"layer {number}"), with_kwargs=True)
    for exit, head in model.exits.items():
        head.register_forward_hook(count(f"head {exit}"), with_kwargs=True)
    speech = recordings(16_000, 9_000, 24_000)
    engine = Engine(model)

    below = {"confidence": [-np.inf, 0.0]}  # any score is above the first threshold
    assert [exit for exit, _ in run(engine, speech, ExitPolicy(below))] == [1, 1, 1]
    assert rows == {"layer 1": [3], "head 1": [3]}

    rows.clear()
    scores = [confidence([x]) for _, x in run(engine, speech, ExitPolicy(below))]
    rows.clear()
    some = {"confidence": [sorted(scores)[1], 0.0]}  # only the surest stops at exit 1
    exits = [exit for exit, _ in run(engine, speech, ExitPolicy(some))]
    assert sorted(exits) == [1, 3, 3] and exits[int(np.argmax(scores))] == 1
    assert rows == {"layer 1": [3], "head 1": [3], "layer 2": [2], "head 2": [2],
                    "layer 3": [2], "layer 4": [2], "head 3": [2]}  # fmt: skip

    rows.clear()
    run(engine, speech, ExitPolicy())
    assert rows.keys() == {"layer 1", "layer 2", "layer 3", "layer 4", "head 3"}


@pytest.mark.parametrize("name", sorted(SCORES))
def test_thresholds_of_0_give_the_deepest_exit(name, tokenizer, model):
    speech = recordings(16_000, 9_000, 24_000)
    tokens = Tokens.of(tokenizer)
    deepest = Recogniser(Engine(model), tokens).transcribe_all(speech)
    never = ExitPolicy({name: [0.0, 0.0]})
    adaptive = Recogniser(Engine(model), tokens, never).transcribe_all(speech)
    for (_, one), (_, other) in zip(deepest, adaptive, strict=True):
        assert one.words == other.words and one.exits == other.exits == [3]


def test_scores_that_are_joined_must_all_be_sure(model):
    sure, unsure = {"confidence": [-np.inf] * 2}, {"entropy": [0.0] * 2}
    speech = recordings(16_000)
    assert run(Engine(model), speech, ExitPolicy(sure))[0][0] == 1
    assert run(Engine(model), speech, ExitPolicy({**sure, **unsure}))[0][0] == 3


def test_a_deadline_stops_where_the_next_stage_would_end_too_late(model):
    speech = recordings(16_000)
    free, endless = StageCost(0.0, 0.0), StageCost(0.0, 1e6)

    def reached(deadline: float, *costs: StageCost) -> int:
        return run(Engine(model), speech, ExitPolicy({}, deadline, costs))[0][0]

    assert reached(60, free, free, endless) == 2
    assert reached(60, free, free, StageCost(1e6, 0.0)) == 2  # however short the recording is
    assert reached(0, free, free, endless) == 1
    assert reached(60, free, free, free) == 3


def test_what_a_stage_takes_is_a_call_and_so_much_for_each_second(monkeypatch):
    """Against an engine whose stages take 1 ms + 2 ms/s, 0 + 3 ms/s and 5 ms, on its own clock."""
    now = 0.0

    class Clockwork:
        num_exits = 3

        def start(self, batch):
            seconds = len(batch[0]) / 16_000
            self.left = iter((0.001 + 0.002 * seconds, 0.003 * seconds, 0.005))
            return self

        def advance(self):
            nonlocal now
            now += next(self.left)

    monkeypatch.setattr("efmodel.decoding.stages.perf_counter", lambda: now)
    costs = stage_costs(Clockwork())
    assert np.allclose(costs, [(0.001, 0.002), (0.0, 0.003), (0.005, 0.0)], atol=1e-9)
    assert costs[0].of(4.0) == pytest.approx(0.009)


def test_a_policy_that_the_model_cannot_follow_is_refused():
    assert parse("confidence+entropy", {"entropy": [1], "confidence": [2]}) == {
        "confidence": [2],
        "entropy": [1],
    }
    with pytest.raises(UserError, match="policy: found 'confidense', wanted one of confidence, "):
        parse("confidense", {})
    with pytest.raises(UserError, match=r"found no thresholds for entropy .* \(it has agreement\)"):
        parse("entropy", {"agreement": [0]})


def test_a_cut_model_has_the_thresholds_of_the_whole(model, tmp_path):
    model.config.exit_thresholds = {"confidence": [-0.2, -0.1]}
    cut = model.cut(2)
    assert cut.config.exit_thresholds == {"confidence": [-0.2]}
    cut.save_pretrained(tmp_path)
    assert EarlyExitForCTC.from_pretrained(tmp_path).config.exit_thresholds == {
        "confidence": [-0.2]
    }
    assert model.config.exit_thresholds == {"confidence": [-0.2, -0.1]}
