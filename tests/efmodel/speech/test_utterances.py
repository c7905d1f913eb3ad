"""What is skipped, named and counted on the way from recordings to batches."""

import logging

import numpy as np
import soundfile

from efmodel.config import IGNORED
from efmodel.speech import recordings, vocabulary
from efmodel.speech.batches import collate
from efmodel.speech.utterances import Skipped, prepare
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
    return recordings.audiofolder(folder).train


def test_each_bad_recording_is_named_and_the_good_one_kept(tmp_path, tokenizer):
    kept, skipped = prepare(rows(tmp_path), tokenizer, small_config(), to_train=True)
    assert [u.name for u in kept] == ["good.wav"]
    assert kept[0].text == "hello" and kept[0].seconds == 1.0
    reasons = dict(skipped.recordings)
    assert "wanted words" in reasons["silent.wav"]
    assert "found 0.20 s of audio = 6 frames, wanted 13" in reasons["short.wav"]
    assert reasons["broken.wav"].startswith("found no readable audio")
    assert skipped.characters == {"?": 2, "!": 1}


def test_pieces_of_words_fit_into_shorter_audio_than_letters_do(tmp_path):
    words = "that of the king"
    folder = write_folder(tmp_path / "d", [("a.wav", words, "x", 0.3), ("b.wav", words, "x", 0.1)])
    pieces = vocabulary.of_preset("paper")
    dataset = recordings.audiofolder(folder).train
    kept, skipped = prepare(dataset, pieces, small_config(vocab_size=256), to_train=True)
    assert [(u.name, len(u.labels)) for u in kept] == [("a.wav", 4)]
    wanted = f"found 0.10 s of audio = 3 frames, wanted 4 for '{words}'"
    assert skipped.recordings == [("b.wav", wanted)]


def test_recordings_of_any_form_and_length_are_kept_or_named(tmp_path, tokenizer):
    names = ["cd.wav", "hour.flac", "blip.wav", "foreign.wav"]
    texts = ["two", "long", "hm", "\u0447\u0435\u0442\u044b\u0440\u0435"]
    rows = [(name, said, "x", 1.0) for name, said in zip(names, texts, strict=True)]
    folder = write_folder(tmp_path / "d", rows)
    stereo = np.stack([tone(1.0, 44_100), np.zeros(44_100, "float32")], axis=1)
    soundfile.write(folder / "cd.wav", stereo, 44_100)
    soundfile.write(folder / "hour.flac", np.zeros(31 * 60 * 8_000, "int16"), 8_000)
    soundfile.write(folder / "blip.wav", tone(0.05), 16_000)
    dataset = recordings.audiofolder(folder).train
    for to_train in (True, False):
        kept, skipped = prepare(dataset, tokenizer, small_config(), to_train)
        assert kept[0].name == "cd.wav" and kept[0].samples.shape == (16_000,)
        reasons = dict(skipped.recordings)
        assert "found 1860.0 s of audio, wanted at most 30" in reasons["hour.flac"]
        assert "wanted words" in reasons["foreign.wav"]
        assert skipped.characters["\u0447"] == 1
        # To test, what is short counts; what is half an hour does not fit any device.
        assert [u.name for u in kept] == ["cd.wav"] + ([] if to_train else ["blip.wav"])
    assert skipped.kinds == {"too long": 1, "no words": 1}
    kept, _ = prepare(dataset, tokenizer, small_config(), to_train=True, seconds=(0.01, 0.5))
    assert [u.name for u in kept] == ["blip.wav"]


def test_a_long_list_of_skipped_recordings_is_summed_up(caplog):
    skipped = Skipped()
    for number in range(40):
        skipped.add(f"{number}.wav", "too long" if number % 4 else "no audio", "reason")
    with caplog.at_level("INFO", logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        skipped.log("here")
        logging.getLogger("flwr").removeHandler(caplog.handler)
    lines = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert len(lines) == 6 and lines[0] == "here: skipped 0.wav: reason"
    assert lines[-1] == "here: skipped 40 in all: too long x30, no audio x10"


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


def test_recordings_without_sound_are_not_trained_on_and_named(tmp_path, tokenizer):
    names = ["zeros.wav", "offset.wav", "opposite.wav", "quiet.wav", "left.wav"]
    folder = write_folder(tmp_path / "d", [(name, "two", "x", 1.0) for name in names])
    sound, none = tone(1.0), np.zeros(16_000, "float32")
    soundfile.write(folder / "zeros.wav", none, 16_000)
    soundfile.write(folder / "offset.wav", none + 0.1, 16_000)
    soundfile.write(folder / "opposite.wav", np.stack([sound, -sound], 1), 16_000)
    soundfile.write(folder / "quiet.wav", sound / 500, 16_000)
    soundfile.write(folder / "left.wav", np.stack([sound, none], 1), 16_000)
    dataset = recordings.audiofolder(folder).train
    kept, skipped = prepare(dataset, tokenizer, small_config(), to_train=True)
    assert [u.name for u in kept] == ["quiet.wav", "left.wav"]
    assert skipped.kinds == {"silent": 3}
    reasons = dict(skipped.recordings)
    assert "found silence" in reasons["zeros.wav"] and "found silence" in reasons["offset.wav"]
    assert "found channels that cancel each other" in reasons["opposite.wav"]
    kept, _ = prepare(dataset, tokenizer, small_config(), to_train=False)
    assert len(kept) == 5  # in a test, words that are not heard are errors


def test_missing_files_and_texts_are_skipped_one_by_one(tmp_path, tokenizer):
    folder = write_folder(tmp_path / "d", [("gone.wav", "two", "x", 1.0), ("a.wav", "a", "x", 1.0)])
    (folder / "gone.wav").unlink()
    rows = [*recordings.audiofolder(folder).train]
    audio = {"bytes": None, "path": None}
    rows += [{**rows[1], "text": None}, {"audio": audio, "text": "two", "speaker": "x"}]
    kept, skipped = prepare(rows, tokenizer, small_config(), to_train=True)
    assert [u.name for u in kept] == ["a.wav"]
    assert skipped.kinds == {"no file": 1, "no words": 1, "no audio": 1}
    assert dict(skipped.recordings)["gone.wav"] == "found no file, wanted audio"
    assert dict(skipped.recordings)["a.wav"] == "found text None, wanted words"


def test_samples_count_and_wrong_headers_are_named_once(tmp_path, tokenizer, caplog):
    names = ["joined.mp3", "long.mp3"]
    folder = write_folder(tmp_path / "d", [(name, "two", "x", 1.0) for name in names])
    for name, seconds in zip(names, (2.0, 3.0), strict=True):
        soundfile.write(folder / name, tone(seconds), 16_000)
        (folder / name).write_bytes(2 * (folder / name).read_bytes())  # two files in one
    dataset = recordings.audiofolder(folder).train
    limits = (0.1, 5.0)  # long.mp3 has 6 s, its header says 3
    kept, skipped = prepare(dataset, tokenizer, small_config(), to_train=True, seconds=limits)
    assert [(u.name, u.seconds) for u in kept] == [("joined.mp3", 4.0)]
    assert skipped.kinds == {"too long": 1}
    with caplog.at_level("WARNING", logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        skipped.log("here")
        logging.getLogger("flwr").removeHandler(caplog.handler)
    lines = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert lines[-1] == "here: joined.mp3: found 4.00 s of audio, its header says 2.00 s"
