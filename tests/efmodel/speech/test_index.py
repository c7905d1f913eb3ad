"""The index of recordings: decoded once, until a file changes, and never a reason to fail."""

import os
import sqlite3

import numpy as np
import pytest
import soundfile

from efmodel.speech import audio, memory, recordings
from efmodel.speech.batches import batches
from efmodel.speech.index import Index, Measurement
from efmodel.speech.recorded import ChangedError, InMemory, decode, key_of
from efmodel.speech.utterances import Utterance, prepare
from tests.conftest import small_config, tone, write_folder

MEASURED = Measurement(16_000, True, None, "", False, 0.125)


@pytest.fixture(autouse=True)
def empty_memory():
    """Give each test a process that has decoded nothing yet."""
    limit = memory.of_process().limit
    memory.of_process().limit = 0
    memory.of_process().limit = limit


def forget_audio() -> None:
    limit = memory.of_process().limit
    memory.of_process().limit = 0
    memory.of_process().limit = limit


def speech(tmp_path, names=("a.wav", "b.wav"), seconds=1.0):
    folder = write_folder(tmp_path / "d", [(name, "two", "x", seconds) for name in names])
    return folder, recordings.audiofolder(folder).train


def spoil(path) -> None:
    """Replace a file's content by noise that is no audio; size and time stay."""
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_recording_is_decoded_once_until_its_file_changes(tmp_path, tokenizer):
    folder, dataset = speech(tmp_path)
    first, _ = prepare(dataset, tokenizer, small_config(), to_train=True)
    spoil(folder / "a.wav")  # whoever decodes it now fails
    again, skipped = prepare(dataset, tokenizer, small_config(), to_train=True)
    assert [(u.name, u.seconds) for u in again] == [(u.name, u.seconds) for u in first]
    assert not skipped.recordings
    soundfile.write(folder / "b.wav", tone(2.0), 16_000)  # another size
    os.utime(folder / "a.wav", (1, 1))  # another time
    new, skipped = prepare(dataset, tokenizer, small_config(), to_train=True)
    assert [(u.name, u.seconds) for u in new] == [("b.wav", 2.0)]
    assert skipped.kinds == {"no audio": 1} and skipped.recordings[0][0] == "a.wav"


def test_a_file_that_changes_after_the_check_ends_the_round_and_is_named(
    tmp_path, tokenizer, caplog
):
    folder, dataset = speech(tmp_path)
    utterances, _ = prepare(dataset, tokenizer, small_config(), to_train=True)
    forget_audio()
    spoil(folder / "a.wav")
    with pytest.raises(ChangedError) as raised:
        utterances[0].decoded()
    assert "a.wav" not in str(raised.value)  # it travels to the server
    assert utterances[1].samples.shape == (16_000,)


def test_an_index_that_cannot_be_written_or_read_changes_nothing(tmp_path, tokenizer, disk):
    _, dataset = speech(tmp_path)
    disk.parent.mkdir()
    disk.touch()  # a file where the folder should be
    kept, _ = prepare(dataset, tokenizer, small_config(), to_train=True)
    assert len(kept) == 2
    disk.unlink()
    disk.mkdir()
    (disk / "recordings.sqlite").write_bytes(b"no database" * 1000)
    kept, _ = prepare(dataset, tokenizer, small_config(), to_train=True)
    assert len(kept) == 2
    kept, _ = prepare(dataset, tokenizer, small_config(), to_train=True)  # the damaged one is gone
    with sqlite3.connect(disk / "recordings.sqlite") as database:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        assert len(kept) == 2 and tables > 0


def test_measurements_come_back_as_they_were_put_also_after_a_crash(tmp_path):
    path = tmp_path / "i.sqlite"
    index = Index(path)
    with_header = Measurement(31, False, 0.1, "a remark", True, 1e-9)
    index.put(b"1", MEASURED)
    index.put(b"2", with_header)
    assert index.get(b"1") == MEASURED and index.get(b"3") is None
    index.save()
    index.put(b"4", MEASURED)  # never saved: this process dies
    other = Index(path)
    assert other.get(b"1") == MEASURED and other.get(b"2") == with_header
    assert other.get(b"4") is None
    other.put(b"1", with_header)
    other.close()
    assert Index(path).get(b"1") == with_header


def test_two_processes_write_side_by_side(tmp_path):
    one, other = Index(tmp_path / "i.sqlite"), Index(tmp_path / "i.sqlite")
    for number in range(600):
        (one if number % 2 else other).put(bytes([number % 256, number // 256]), MEASURED)
    one.close()
    other.close()
    index = Index(tmp_path / "i.sqlite")
    assert all(index.get(bytes([n % 256, n // 256])) == MEASURED for n in range(600))


def test_a_longer_limit_decodes_again_what_was_cut(tmp_path, tokenizer):
    _, dataset = speech(tmp_path, seconds=3.0)
    for longest, kept in ((1.0, 0), (2.0, 0), (4.0, 2), (1.0, 0), (4.0, 2)):
        limits = (0.1, longest)
        usable, skipped = prepare(dataset, tokenizer, small_config(), True, limits)
        assert len(usable) == kept and len(skipped.recordings) == 2 - kept


def test_audio_in_a_data_set_is_known_by_its_bytes(tmp_path, tokenizer):
    folder, dataset = speech(tmp_path, ("a.wav",))
    soundfile.write(folder / "b.wav", np.zeros(16_000, "float32"), 16_000)
    rows = [
        {"audio": {"bytes": (folder / name).read_bytes(), "path": "x.wav"}, "text": "two",
         "speaker": "x"}
        for name in ("a.wav", "b.wav", "a.wav")
    ]  # fmt: skip
    keys = [key_of(row) for row in rows]
    assert keys[0] == keys[2] != keys[1] and keys[0] != key_of(dataset[0])
    assert key_of({**rows[0], "start": 0.5}) != keys[0]  # a part of it is another recording
    kept, skipped = prepare(rows, tokenizer, small_config(), to_train=True)
    assert len(kept) == 2 and skipped.kinds == {"silent": 1}
    forget_audio()
    np.testing.assert_allclose(kept[1].samples, tone(1.0), atol=1e-4)


def test_batches_are_those_of_decoded_utterances_without_decoding(tmp_path, tokenizer):
    names = [f"{number}.wav" for number in range(12)]
    folder, dataset = speech(tmp_path, names)
    for number, name in enumerate(names):
        soundfile.write(folder / name, tone(0.5 + 0.13 * number, 22_050), 22_050)
    utterances, _ = prepare(dataset, tokenizer, small_config(), to_train=True)
    in_memory = [
        Utterance(u.name, InMemory(decode(row, u.name).samples), u.text, u.labels)
        for u, row in zip(utterances, dataset, strict=True)
    ]
    forget_audio()
    for name in names:
        spoil(folder / name)
    for seed in range(3):
        made, wanted = (batches(each, 4.0, seed, 3) for each in (utterances, in_memory))
        assert [[u.name for u in batch] for batch in made] == [
            [u.name for u in batch] for batch in wanted
        ]


def test_decoding_is_as_exact_under_bfloat16(tmp_path):
    folder, dataset = speech(tmp_path, ("a.wav",))
    soundfile.write(folder / "a.wav", tone(1.0, 44_100), 44_100)
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        found = decode(dataset[0], "a.wav").samples
    torch.testing.assert_close(found, audio.load(folder / "a.wav"), rtol=0, atol=0)
