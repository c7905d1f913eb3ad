"""What is skipped, named and counted on the way from recordings to batches."""

import pytest
import torch

from efmodel import corpus, text
from efmodel.loss import IGNORED
from efmodel.utterances import Utterance, at_speed, collate, prepare
from tests.conftest import small_config, tone, write_folder


def rows(tmp_path):
    folder = write_folder(
        tmp_path / "d",
        [
            ("good.wav", "Hello?", "x", 1.0),
            ("silent.wav", " ?! ", "x", 1.0),
            ("short.wav", "three three", "x", 0.2),
            ("broken.wav", "two", "x", 1.0),
        ],
    )
    (folder / "broken.wav").write_bytes(b"RIFF but no more")
    return corpus.audiofolder(folder).train


def test_each_bad_recording_is_named_and_the_good_one_kept(tmp_path, tokenizer):
    kept, skipped = prepare(rows(tmp_path), tokenizer, small_config(), to_train=True)
    assert [u.name for u in kept] == ["good.wav"]
    assert kept[0].text == "hello" and kept[0].seconds == 1.0
    reasons = dict(skipped.recordings)
    assert "wanted words" in reasons["silent.wav"]
    assert "found 0.20 s of audio = 6 frames, wanted 13" in reasons["short.wav"]
    assert "broken.wav: found no readable audio" in reasons["broken.wav"]
    assert skipped.characters == {"?": 2, "!": 1}


def test_pieces_of_words_fit_into_shorter_audio_than_letters_do(tmp_path):
    words = "that of the king"
    folder = write_folder(tmp_path / "d", [("a.wav", words, "x", 0.3), ("b.wav", words, "x", 0.1)])
    pieces = text.of_preset("paper")
    dataset = corpus.audiofolder(folder).train
    kept, skipped = prepare(dataset, pieces, small_config(vocab_size=256), to_train=True)
    assert [(u.name, len(u.labels)) for u in kept] == [("a.wav", 4)]
    wanted = f"found 0.10 s of audio = 3 frames, wanted 4 for '{words}'"
    assert skipped.recordings == [("b.wav", wanted)]


def test_short_audio_counts_in_a_test(tmp_path, tokenizer):
    kept, _ = prepare(rows(tmp_path), tokenizer, small_config(), to_train=False)
    assert [u.name for u in kept] == ["good.wav", "short.wav"]


def test_collate_pads_and_says_where(tmp_path, tokenizer):
    kept, _ = prepare(rows(tmp_path), tokenizer, small_config(), to_train=False)
    batch = collate(kept)
    assert batch["input_values"].shape == (2, 16_000)
    assert batch["attention_mask"].sum(1).tolist() == [16_000, 3_200]
    assert batch["input_values"][1, 3_200:].abs().sum() == 0
    assert batch["labels"].shape == (2, 11) and (batch["labels"][0] == IGNORED).sum() == 6


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_faster_speech_is_shorter_and_higher(speed):
    slow = Utterance("a", torch.from_numpy(tone(2.0, pitch=400)), "one", [3])
    fast = at_speed(slow, speed)
    assert fast.seconds == pytest.approx(2.0 / speed, abs=0.001)
    spectrum = torch.fft.rfft(fast.samples[:16_000]).abs()
    assert spectrum.argmax() == pytest.approx(400 * speed, abs=1)
