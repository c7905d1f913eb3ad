"""Random changes to training speech."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.settings import AUGMENTATIONS, Settings, SettingsError, augmentations
from efmodel.speech import augmentation, text, vocabulary
from efmodel.speech.augmentation import (
    JOIN_SECONDS,
    Take,
    at_speed,
    draw,
    longest,
    noise,
    speech_level,
)
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance
from tests.conftest import tone

ALL = Settings(augment=",".join(AUGMENTATIONS))


def utterances(seconds: list[float]) -> list[Utterance]:
    """Return quiet tones of those lengths, with their numbers as labels."""
    return [
        Utterance(f"{i}.wav", InMemory(torch.from_numpy(0.1 * tone(each))), f"word{i}", [3 + i])
        for i, each in enumerate(seconds)
    ]


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_faster_speech_is_shorter_and_higher(speed):
    fast = at_speed(torch.from_numpy(tone(2.0, pitch=400)), speed)
    assert len(fast) / 16_000 == pytest.approx(2.0 / speed, abs=0.001)
    spectrum = torch.fft.rfft(fast[:16_000]).abs()
    assert spectrum.argmax() == pytest.approx(400 * speed, abs=1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.1, 1.0), min_size=1, max_size=40), st.integers(0, 1000))
def test_each_utterance_is_heard_once_an_epoch_and_some_in_a_row_with_others(seconds, seed):
    speech = utterances(seconds)
    takes = draw(speech, ALL, seed)
    alone = Counter(take.utterances[0].name for take in takes if len(take.utterances) == 1)
    assert alone == Counter(each.name for each in speech)
    in_rows = Counter(
        each.name for take in takes if len(take.utterances) > 1 for each in take.utterances
    )
    assert max(in_rows.values(), default=1) == 1
    assert sum(in_rows.values()) <= round(0.4 * len(speech))
    assert takes == draw(speech, ALL, seed)
    for take in takes:
        assert sum(each.seconds for each in take.utterances) <= JOIN_SECONDS
        assert take.seconds == pytest.approx(take.heard([2]).seconds, abs=0.01)


def test_a_single_recording_is_never_longer_than_with_two_pauses_and_slowly():
    short = dataclasses.replace(ALL, max_seconds=3.0)
    takes = [t for seed in range(300) for t in draw(utterances([3.0]), short, seed)]
    lengths = [take.seconds for take in takes if take.utterances]
    assert 6.0 < max(lengths) <= 4.0 + 3.0 / 0.9


@pytest.mark.parametrize("max_seconds, most", [(3.0, 12.0), (30.0, 30.0)])
def test_no_take_is_longer_than_the_capacity_was_measured_for(max_seconds, most):
    limited = dataclasses.replace(ALL, max_seconds=max_seconds)
    assert longest(limited) == 4.0 + most / 0.9
    # Sixty short words and their gaps are longer than the speech in a row may be.
    for lengths in ([max_seconds], [max_seconds, 3.0], [0.2] * 60):
        speech = utterances(lengths)
        takes = [take for seed in range(300) for take in draw(speech, limited, seed)]
        assert max(take.seconds for take in takes if take.utterances) <= longest(limited)
    alone = dataclasses.replace(limited, augment="pauses")
    assert longest(alone) == 4.0 + max_seconds / 0.9
    plain = dataclasses.replace(limited, augment="off", speed_perturbation=0.0)
    assert longest(plain) == max_seconds


def test_a_row_of_many_short_words_ends_before_it_is_too_long():
    """The chance of a further word is raised to 1, so that only lengths end a row."""
    words = utterances([0.1] * 400)
    limited = dataclasses.replace(ALL, max_seconds=3.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "JOIN_CHANCE", 1.0)
        takes = draw(words, limited, seed=0)
    counts = Counter(len(take.utterances) for take in takes if len(take.utterances) > 1)
    assert counts == {12: 13, 4: 1}  # 12 words of 0.1 s / 0.9 and 11 gaps of 1 s in 12 s / 0.9
    assert max(take.seconds for take in takes if take.utterances) <= longest(limited)


def test_off_leaves_recordings_as_they_are():
    speech = utterances([1.0, 2.0])
    plain = Settings(augment="off", speed_perturbation=0.0)
    takes = draw(speech, plain, 0)
    for take, each in zip(takes, speech, strict=True):
        heard = take.heard()
        assert heard.labels == each.labels and torch.equal(heard.samples, each.samples)


def test_pauses_stand_around_and_between_utterances():
    one, two = utterances([1.0, 0.5])
    take = Take((one, two), (0.25, 0.5, 1.0))
    heard = take.heard(space=[2])
    assert heard.labels == [3, 2, 4] and heard.text == "word0 word1"
    pieces = heard.samples.split([4000, 16_000, 8000, 8000, 16_000])
    assert [float(pieces[i].abs().max()) for i in (0, 2, 4)] == [0.0, 0.0, 0.0]
    assert torch.equal(pieces[1], one.samples) and torch.equal(pieces[3], two.samples)


def test_the_labels_of_joined_texts_are_those_of_the_joined_text(tokenizer):
    for each in (tokenizer, vocabulary.of_preset("paper")):
        joined = [*text.encode("one", each), *text.space(each), *text.encode("two", each)]
        assert joined == text.encode("one two", each)


def test_noise_is_as_far_below_the_speech_as_drawn():
    (one,) = utterances([2.0])
    level = speech_level(one.samples)
    assert level == pytest.approx(float(one.samples.square().mean().sqrt()), rel=0.02)
    assert speech_level(torch.cat([torch.zeros(64_000), one.samples])) == pytest.approx(level, 0.02)
    for pauses in ((0.0, 0.0), (2.0, 1.0)):
        noisy = Take((one,), pauses, snr=20.0, tilt=1.0, seed=3).heard()
        clean = Take((one,), pauses, snr=None, gain=0.999999).heard()
        found = float((noisy.samples - clean.samples).square().mean().sqrt())
        assert 20 * np.log10(level / found) == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_noise_has_the_colour_it_should(tilt):
    power = torch.fft.rfft(noise(160_000, tilt, 0)).abs().square()
    low, high = power[5_000:10_000].mean(), power[20_000:40_000].mean()  # 0.5-1 and 2-4 kHz
    assert float(10 * torch.log10(low / high)) == pytest.approx(10 * tilt * np.log10(4), abs=0.5)


def test_a_few_takes_have_no_speech():
    takes = draw(utterances([0.1] * 100), ALL, 0)
    empty = [take for take in takes if not take.utterances]
    assert len(empty) == 3
    for take in empty:
        heard = take.heard()
        assert heard.labels == [] and heard.text == "" and 0.5 <= heard.seconds <= 4.0
        assert heard.samples.abs().max() <= 1


def test_a_kind_that_does_not_exist_is_named():
    with pytest.raises(SettingsError, match=r"augment: found 'echo', wanted off, or a list of"):
        Settings.from_run_config({"augment": "pauses,echo".removeprefix("pauses,")})
    assert augmentations("pauses, noise") == {"pauses", "noise"} and not augmentations("off")


def test_augmentation_grows_with_the_run():
    speech = utterances([0.5] * 200)
    weak, strong = (draw(speech, ALL, 0, strength) for strength in (0.0, 1.0))
    assert [len(take.utterances) for take in weak] == [1] * 200 + [0] * 6
    assert not any(sum(take.pauses) for take in weak if take.utterances)
    assert sum(take.snr is not None for take in strong) > 40


def test_rows_come_when_words_are_known():
    speech = utterances([0.5] * 1000)

    def in_rows(strength: float) -> list[int]:
        takes = draw(speech, ALL, 0, strength)
        return [len(take.utterances) for take in takes if len(take.utterances) > 1]

    assert in_rows(0.5) == []
    assert 170 <= sum(in_rows(0.75)) <= 200  # some rows would have one utterance, and are dropped
    assert 350 <= sum(in_rows(1.0)) <= 400 and max(in_rows(1.0)) > 6
