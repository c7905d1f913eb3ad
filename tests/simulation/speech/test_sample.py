"""The sample of speech in the package."""

import pyarrow.parquet
import pytest

from efmodel.speech import audio, corpus, recordings
from simulation.speech.make_sample import DIGITS, SAMPLE


@pytest.fixture(scope="module")
def sample():
    return corpus.load("sample", "")


def test_it_is_small_and_says_that_it_is_synthetic():
    assert SAMPLE.stat().st_size < 6_000_000
    description = pyarrow.parquet.read_schema(SAMPLE).metadata[b"description"].decode()
    assert description.startswith("SYNTHETIC speech") and "eSpeak NG" in description


def test_no_voice_is_in_both_halves(sample):
    train, test = recordings.speakers(sample.train), recordings.speakers(sample.test)
    assert len(train) == 18 and len(test) == 6 and not set(train) & set(test)


def test_texts_are_digit_strings_and_long_test_texts_are_new(sample):
    texts = {half: set(getattr(sample, half)["text"]) for half in ("train", "test")}
    for words in map(str.split, texts["train"] | texts["test"]):
        assert 2 <= len(words) <= 6 and set(words) <= set(DIGITS)
    assert not {t for t in texts["test"] if t.count(" ") >= 2} & texts["train"]


def test_every_recording_decodes_to_a_plausible_length(sample):
    for row in list(sample.train)[::40] + list(sample.test)[::20]:
        samples = audio.load(row["audio"]["bytes"], row["audio"]["path"])
        words = len(row["text"].split())
        assert 0.25 * words < len(samples) / 16_000 < 1.0 * words + 0.5
        assert 0.2 < samples.abs().max() <= 1.05
