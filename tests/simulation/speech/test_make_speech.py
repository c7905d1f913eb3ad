"""Synthetic speech to train on before a federation."""

import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from random import Random

import numpy as np
import pytest

from efmodel.speech import audio, recordings
from simulation.speech import acoustics
from simulation.speech.make_speech import (
    ACCENTS,
    VARIANTS,
    Order,
    choose_voices,
    make_speech,
    record,
)
from simulation.speech.sentences import WORDS, grammar, sentences
from tests.simulation.command import invoke

SMALL = ["--hours", "0.012", "--voices", "5", "--test-hours", "0.004", "--test-voices", "2"]

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="found no espeak-ng: Debian's package espeak-ng"
)


def make(folder, *more):
    """Make a small corpus in a process of its own: it forks workers."""
    command = [sys.executable, "-m", "simulation.speech.make_speech", str(folder), *SMALL, *more]
    done = subprocess.run(
        [*command, "--no-wordnet"], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("speech") / "made")


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@needs_espeak
def test_it_is_an_audiofolder_of_as_much_speech_as_was_asked_for(folder):
    made = recordings.audiofolder(folder)
    for half, wanted in ((made.train, 0.012 * 3600), (made.test, 0.004 * 3600)):
        seconds = [audio.info(row["audio"]["path"]).seconds for row in half]
        assert wanted <= sum(seconds) < wanted + max(seconds)
        for row, length in zip(half, seconds, strict=True):
            samples = audio.load(row["audio"]["path"]).numpy()
            assert len(samples) == round(length * 16_000)
            assert 0.05 < np.abs(samples).max() < 0.95 and samples.std() > 0.003
            assert length > 0.1 * len(row["text"].split())
    listed = {row["audio"]["path"] for half in (made.train, made.test) for row in half}
    assert listed == {str(path) for path in folder.rglob("*.flac")}


@needs_espeak
def test_halves_share_no_voice_and_no_text_occurs_twice(folder):
    made = recordings.audiofolder(folder)
    train, test = recordings.speakers(made.train), recordings.speakers(made.test)
    assert len(set(train)) == 5 and len(set(test)) == 2 and not set(train) & set(test)
    texts = made.train["text"][:] + made.test["text"][:]
    assert len(set(texts)) == len(texts)


@pytest.mark.programs
@needs_espeak
def test_the_same_seed_makes_the_same_bytes_and_more_hours_only_add(folder, tmp_path):
    less, more = files(folder), files(make(tmp_path / "more", "--hours", "0.015"))
    assert len(less) < len(more)
    for name, content in less.items():
        grown = name.parts[0] == "train" and name.suffix == ".jsonl"
        assert more[name].startswith(content) if grown else more[name] == content


@needs_espeak
def test_another_seed_makes_another_recording_of_the_same_words():
    (voice,) = choose_voices("train", 1, 0)
    one, other = (record(Order("the same words", "a", voice, (seed, 0))) for seed in (0, 1))
    assert one[0] != other[0]


@needs_espeak
def test_it_writes_over_nothing(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = invoke(make_speech, tmp_path, "--no-wordnet")
    assert done.exit_code == 2 and "wanted a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_voices_differ_and_no_variant_is_in_both_halves():
    train, test = choose_voices("train", 400, 3), choose_voices("test", 40, 3)
    assert len({(v.accent, v.variant) for v in train + test}) == 440
    assert not {v.variant for v in train} & {v.variant for v in test}
    assert not set(VARIANTS["train"]) & set(VARIANTS["test"])


@needs_espeak
def test_espeak_knows_every_accent_and_variant():
    # For an unknown variant it silently takes a default, so compare with its own list.
    def listed(what):
        lines = subprocess.run(["espeak-ng", f"--voices={what}"], capture_output=True, text=True)
        return lines.stdout

    variants = set(re.findall(r"!v/(\S+)", listed("variant")))
    assert {v for half in VARIANTS.values() for v in half} <= variants
    assert set(ACCENTS) <= set(re.findall(r"en-\S+", listed("en")))


def test_sentences_are_distinct_and_spelled_in_the_alphabet():
    texts = list(islice(sentences(Random(5), None), 5000))
    assert len(set(texts)) == 5000
    assert all(re.fullmatch("[a-z']+( [a-z']+)*", text) for text in texts)
    assert all(WORDS[0] <= len(text.split()) <= WORDS[1] for text in texts)
    assert len({word for text in texts for word in text.split()}) > 700


def test_every_name_in_the_grammar_has_a_rule_and_is_used():
    rules = grammar()
    words = {word for options in rules.values() for option in options for word in option}
    assert {word for word in words if word != word.lower()} == set(rules) - {"SENTENCE"}


def test_wordnet_gives_its_examples_of_everyday_words(tmp_path):
    example = 'n 0000 | a thing; "The dog, he \'Ran\' home"; "the dog ran 5 miles home"\n'
    rare = 'n 0000 | a thing; "he ran home xylophonically"; "he ran"\n'
    more = "".join(f'n 00 | "the dog he ran home {"the " * n}"\n' for n in (1, 2))
    (tmp_path / "data.noun").write_text(example + rare + more, encoding="latin-1")
    for part in ("verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 licence\n", encoding="latin-1")
    first = set(islice(sentences(Random(0), tmp_path), 100))
    wanted = {"the dog he ran home" + " the" * n for n in (0, 1, 2)}
    assert wanted <= first and not any("xylo" in text or "miles" in text for text in first)


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_noise_comes_at_the_ratio_asked_for(snr):
    chance = np.random.default_rng(1)
    speech = np.sin(np.arange(32_000) * 0.05) * np.linspace(0, 0.8, 32_000)
    noise = acoustics.coloured_noise(32_000, 1.0, chance)
    added = acoustics.add_noise(speech, noise, snr) - speech
    assert 10 * np.log10(np.var(speech) / np.var(added)) == pytest.approx(snr, abs=0.1)


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_noise_has_the_colour_asked_for(tilt):
    noise = acoustics.coloured_noise(160_000, tilt, np.random.default_rng(2))
    power = np.square(np.abs(np.fft.rfft(noise)))  # bins of 0.1 Hz
    octaves = [power[first : 2 * first].mean() for first in (2_000, 4_000, 8_000, 16_000)]
    slope = np.polyfit(range(4), np.log2(octaves), 1)[0]
    assert slope == pytest.approx(-tilt, abs=0.1)


def test_a_room_decays_as_asked_and_keeps_the_direct_sound():
    click = np.zeros(16_000)
    click[0] = 1.0
    reverberated = acoustics.reverberate(click, 0.5, 6.0, np.random.default_rng(3))
    assert reverberated[0] == pytest.approx(1.0)
    tail = np.square(reverberated[1:8_000])
    assert 10 * np.log10(tail.sum()) == pytest.approx(-6.0, abs=0.01)
    early, late = tail[:1600].mean(), tail[4800:6400].mean()  # 0.3 s later
    assert 10 * np.log10(early / late) == pytest.approx(60 * 0.3 / 0.5, abs=1.5)
    assert np.abs(reverberated[8_000:]).max() < 1e-9


def test_a_narrow_band_keeps_what_lies_in_it_alone():
    time = np.arange(16_000) / 16_000
    low, middle, high = (np.sin(2 * np.pi * hertz * time) for hertz in (50, 1000, 7000))
    limited = acoustics.band_limit(low + middle + high, 200, 3500)
    assert np.abs(limited - middle).max() < 0.1
