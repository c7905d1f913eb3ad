"""Well-known corpora, each written in its real form, are recognised and read."""

import gzip
import json

import pytest
import torch

from efmodel.speech import audio, recordings
from efmodel.speech.segments import parse


def read(folder, **options):
    return recordings.audiofolder(folder, **options)


def rows(dataset):
    return list(zip(dataset["speaker"][:], dataset["text"][:], strict=True))


def seconds(dataset):
    """Decode every row: its path must be that of a real recording, or of a part of one."""
    return [round(audio.decode(row["audio"]["path"]).seconds, 2) for row in dataset]


CV_HEADER = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\t"
    "accents\tvariant\tlocale\tsegment\n"
)


def cv_line(client, clip, sentence):
    return f"{client}\t{clip}\tab12\t{sentence}\t\t2\t0\t\t\t\t\tde\t\n"


def test_common_voice_scripted_speech(tmp_path, record, text):
    root = tmp_path / "cv-corpus-22.0-2025-06-20" / "de"
    for number in range(4):
        record(root / "clips" / f"common_voice_de_{number}.mp3")
    clips = [f"common_voice_de_{number}.mp3" for number in range(4)]
    train = [
        cv_line("c1f0", clips[0], "„Grüß Gott“, sagte er."),
        cv_line("9ab2", clips[1], '"Ja!"'),
    ]
    text(root / "train.tsv", CV_HEADER + "".join(train))
    text(root / "test.tsv", CV_HEADER + cv_line("77aa", clips[2], 'Nur ein " Zeichen'))
    text(root / "dev.tsv", CV_HEADER + cv_line("88bb", clips[3], "Nicht gelesen"))
    text(root / "validated.tsv", CV_HEADER)
    text(root / "clip_durations.tsv", "clip\tduration[ms]\n")
    found = read(tmp_path)
    assert (found.layout, found.languages, found.left_out) == ("Common Voice", ("de",), {})
    assert [(s, " ".join(t.split())) for s, t in rows(found.train)] == [
        ("c1f0", "Grüß Gott sagte er"), ("9ab2", "Ja"),
    ]  # fmt: skip
    assert rows(found.test) == [("77aa", "Nur ein   Zeichen")]
    assert seconds(found.train) == [1.0, 1.0]


def test_common_voice_without_split_trains_on_what_is_validated(tmp_path, record, text):
    record(tmp_path / "clips" / "a.mp3")
    text(tmp_path / "validated.tsv", CV_HEADER + cv_line("c", "a.mp3", "Ja"))
    text(tmp_path / "invalidated.tsv", CV_HEADER + cv_line("c", "a.mp3", "Nein"))
    found = read(tmp_path)
    assert rows(found.train) == [("c", "Ja")] and found.test is None


def test_common_voice_spontaneous_speech(tmp_path, record, text):
    root = tmp_path / "sps-corpus-5.0-2026-09-11-ab"
    names = [f"spontaneous-speech-ab-{number}.mp3" for number in range(4)]
    for name in names:
        record(root / "audios" / name)
    header = (
        "client_id\taudio_id\taudio_file\tduration_ms\tprompt\ttranscription\tsplit\tlanguage\n"
    )
    halves = ["train", "test", "dev", "unassigned"]
    lines = [
        f"c{n}\t{n}\t{name}\t1000\tWhy?\t[noise] word {n}\t{half}\tAbkhaz\n"
        for n, (name, half) in enumerate(zip(names, halves, strict=True))
    ]
    text(root / "ss-corpus-ab.tsv", header + "".join(lines))
    found = read(root)
    assert rows(found.train)[0][0] == "c0" and "word 0" in found.train["text"][0]
    assert found.test["speaker"][:] == ["c1"] and seconds(found.test) == [1.0]
    assert found.notes == ("1 rows of dev are not used", "1 rows of unassigned are not used")


def test_fleurs_out_of_its_archives(tmp_path, record, text):
    root = tmp_path / "de_de"
    record(root / "audio" / "train" / "123.wav")
    record(root / "audio" / "test" / "456.wav")
    fields = "1\t123.wav\tEin Satz.\tein satz\te i n | s a t z |\t16000\tFEMALE\n"
    text(root / "train.tsv", fields + "broken\tline\n")
    text(root / "test.tsv", fields.replace("123", "456"))
    found = read(root)
    assert (found.layout, found.languages) == ("FLEURS", ("de_de",))
    assert rows(found.train) == [("speaker", "ein satz")] and seconds(found.test) == [1.0]
    assert "all is one speaker" in found.notes[0]
    assert found.left_out == {"train: unusable row": 1}


def test_librispeech(tmp_path, record, text):
    root = tmp_path / "LibriSpeech"
    for subset, speaker in (("train-clean-100", 19), ("test-clean", 61), ("dev-clean", 84)):
        chapter = root / subset / str(speaker) / "198"
        names = [f"{speaker}-198-000{number}" for number in range(2)]
        for name in names:
            record(chapter / f"{name}.flac")
        lines = "".join(f"{name} CONCORD RETURNED\n" for name in names)
        text(chapter / f"{speaker}-198.trans.txt", lines)
    text(root / "README.TXT", "x")
    found = read(tmp_path)
    assert (found.layout, found.languages) == ("LibriSpeech", ("en",))
    assert rows(found.train) == [("19", "concord returned")] * 2
    assert found.test["speaker"][:] == ["61", "61"] and seconds(found.test) == [1.0, 1.0]


@pytest.mark.parametrize("suffix", ["flac", "opus"])
def test_multilingual_librispeech(tmp_path, record, text, suffix):
    root = tmp_path / "mls_german_opus"
    for half, speaker in (("train", "4536"), ("test", "1054")):
        record(root / half / "audio" / speaker / "1600" / f"{speaker}_1600_000000.{suffix}")
        text(root / half / "transcripts.txt", f"{speaker}_1600_000000\tüber den wald\n")
        text(root / half / "segments.txt", "x\n")
    text(root / "metainfo.txt", "x\n")
    found = read(root)
    assert (found.layout, found.languages) == ("Multilingual LibriSpeech", ("de",))
    assert rows(found.train) == [("4536", "über den wald")]
    assert found.test["speaker"][:] == ["1054"] and seconds(found.test) == [1.0]


def test_kaldi_with_segments_and_commands_that_are_never_run(tmp_path, record, text):
    record(tmp_path / "wav" / "talk.wav", 5.0)
    record(tmp_path / "wav" / "one.wav")
    data, proof = tmp_path / "data", tmp_path / "was-run"
    text(
        data / "train" / "wav.scp",
        f"talk wav/talk.wav\nevil touch {proof}; cat x.wav |\narchive feats.ark:123\n",
    )
    text(data / "train" / "text", "a-1 one two\na-2 three\nb-1 four\nc-1 five\nd-1 six\ne-1 x\n")
    text(
        data / "train" / "segments",
        "a-1 talk 0.5 1.75\na-2 talk 4.0 -1\nb-1 evil 0 1\nc-1 archive 0 1\nd-1 talk 3 2\n",
    )
    text(data / "train" / "utt2spk", "a-1 anna\na-2 anna\nb-1 ben\nc-1 c\nd-1 d\n")
    text(data / "test" / "wav.scp", "t-1 wav/one.wav\n")
    text(data / "test" / "text", "t-1 ten\n")
    text(data / "test" / "utt2spk", "t-1 tom\n")
    text(data / "local" / "text", "not a data folder\n")
    found = read(tmp_path)
    assert found.layout == "Kaldi" and rows(found.test) == [("tom", "ten")]
    assert rows(found.train) == [("anna", "one two"), ("anna", "three")]
    assert seconds(found.train) == [1.25, 1.0] and seconds(found.test) == [1.0]
    assert not proof.exists()
    assert found.left_out == {
        "train: a command in place of a file": 1, "train: unusable row": 3,
    }  # fmt: skip
    assert "commands are never run" in found.faults[0] and "b-1" in found.faults[0]


def test_a_part_of_a_recording_is_what_lies_between_its_times(tmp_path, record, text):
    record(tmp_path / "long.flac", 3.0)
    text(tmp_path / "wav.scp", "long long.flac\n")
    text(tmp_path / "text", "u word\n")
    text(tmp_path / "segments", "u long 1.0 2.5\n")
    found = read(tmp_path).train
    assert found["speaker"][:] == ["speaker"]
    path = found["audio"][0]["path"]
    assert parse(path) == (str(tmp_path / "long.flac"), 1.0, 2.5)
    whole = audio.decode(tmp_path / "long.flac").samples
    torch.testing.assert_close(audio.decode(path).samples, whole[16_000:40_000])


STM = """;; comment
talk 1 anna 0.50 1.50 <o,f0,female> it 's <unk> a {NOISE} talk(2) of the students ' work (anna-1)
talk 1 talk 1.50 2.00 <o,f0,female> ignore_time_segment_in_scoring
talk 1 anna 2.00 2.75 <F0_F> <unk> yes
talk 1 anna
"""


def test_tedlium_release_3(tmp_path, record, text):
    root = tmp_path / "TEDLIUM_release-3"
    for half in ("train", "test"):
        record(root / "legacy" / half / "sph" / "talk.sph", 3.0)
        text(root / "legacy" / half / "stm" / "talk.stm", STM)
    record(root / "data" / "sph" / "talk.sph", 3.0)
    text(root / "data" / "stm" / "talk.stm", STM)
    found = read(tmp_path)
    assert found.layout == "TED-LIUM"
    assert rows(found.train) == [
        ("anna", "it's a talk of the students' work"), ("anna", "yes"),
    ]  # fmt: skip
    assert seconds(found.train) == [1.0, 0.75] and len(found.test) == 2
    assert found.left_out["train: no speech"] == 1 == found.left_out["train: unusable row"]


def lhotse_recording(path, kind="file", length=4.0):
    source = {"type": kind, "channels": [0], "source": str(path)}
    samples = int(length * 16_000)
    form = {"sampling_rate": 16_000, "num_samples": samples, "duration": length}
    return {"id": "rec", "sources": [source], **form}


def supervision(start, duration, words):
    return {
        "id": words, "recording_id": "rec", "start": start, "duration": duration, "channel": 0,
        "text": words, "language": "English", "speaker": "s1",
    }  # fmt: skip


def test_lhotse_cuts(tmp_path, record):
    record(tmp_path / "audio" / "rec.wav", 4.0)
    elsewhere = "/scratch/someone/audio/rec.wav"
    cut = {"id": "c", "start": 1.0, "duration": 2.5, "channel": 0, "type": "MonoCut"}
    both = [supervision(0.0, 1.0, "one"), supervision(1.0, 1.5, "two")]
    cuts = [
        {**cut, "supervisions": both, "recording": lhotse_recording(elsewhere)},
        {**cut, "start": 0, "duration": 4.0, "supervisions": [supervision(0, 4.0, "all")],
         "recording": lhotse_recording("audio/rec.wav")},
        {**cut, "supervisions": both[:1], "recording": lhotse_recording("rm -r /", "command")},
        {"id": "m", "type": "MixedCut", "tracks": []},
    ]  # fmt: skip
    with gzip.open(tmp_path / "cuts_train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(cut) + "\n" for cut in cuts)
    (tmp_path / "cuts_dev.jsonl").write_text(json.dumps(cuts[1]) + "\n")
    found = read(tmp_path)
    assert (found.layout, found.languages) == ("lhotse", ("English",))
    assert rows(found.train) == [("s1", "one"), ("s1", "two"), ("s1", "all")]
    assert seconds(found.train) == [1.0, 1.5, 4.0]
    assert parse(found.train["audio"][2]["path"]).whole and len(found.test) == 1
    kinds = {"train: a source that is no file": 1, "train: unusable row": 1}
    assert found.left_out == kinds and "never run" in found.faults[0]


def test_lhotse_recordings_and_supervisions(tmp_path, record):
    record(tmp_path / "rec.wav", 4.0)
    for name, value in (
        ("x_recordings_train.jsonl", lhotse_recording("rec.wav")),
        ("x_supervisions_train.jsonl", supervision(2.0, 1.25, "one")),
    ):
        (tmp_path / name).write_text(json.dumps(value) + "\n")
    found = read(tmp_path)
    assert found.layout == "lhotse" and rows(found.train) == [("s1", "one")]
    assert seconds(found.train) == [1.25]


def test_nemo_manifests(tmp_path, record):
    record(tmp_path / "wavs" / "a.wav", 3.0)
    record(tmp_path / "wavs" / "b.wav")
    lines = [
        {"audio_filepath": "wavs/a.wav", "duration": 1.5, "offset": 1.25, "text": "one"},
        {"audio_filepath": "/data/x/wavs/b.wav", "duration": 1.0, "text": "two", "speaker": "s"},
    ]
    for name, values in (("train_manifest", lines[:1]), ("test_manifest", lines[1:])):
        manifest = "".join(json.dumps(value) + "\n" for value in values)
        (tmp_path / f"{name}.json").write_text(manifest)
    found = read(tmp_path)
    assert found.layout == "NeMo" and rows(found.train) == [("speaker", "one")]
    assert rows(found.test) == [("s", "two")]
    assert (seconds(found.train), seconds(found.test)) == ([1.5], [1.0])


def test_voxforge(tmp_path, record, text):
    for session in ("ralf-20080402-abc", "anonymous-20091110-xyz", "anonymous-20101110-uvw"):
        record(tmp_path / session / "wav" / "de1-01.wav")
        text(tmp_path / session / "etc" / "PROMPTS", f"{session}/mfc/de1-01 GUTEN TAG\n")
        text(tmp_path / session / "etc" / "README", "Gender: Male\n")
    found = read(tmp_path)
    assert found.layout == "VoxForge" and found.train["text"][:] == ["guten tag"] * 3
    assert set(found.train["speaker"]) == {
        "ralf", "anonymous-20091110-xyz", "anonymous-20101110-uvw",
    }  # fmt: skip
    assert seconds(found.train) == [1.0] * 3


def test_lj_speech(tmp_path, record, text):
    record(tmp_path / "wavs" / "LJ001-0001.wav")
    line = "LJ001-0001|in 1840, he said|in eighteen forty, he said\n"
    text(tmp_path / "metadata.csv", line)
    found = read(tmp_path)
    assert found.layout == "LJ Speech" and seconds(found.train) == [1.0]
    assert found.train["text"][:] == ["in eighteen forty, he said"]


def test_pairs_of_files(tmp_path, record, text):
    for half, speaker in (("train", "anna"), ("train", "ben"), ("test", "tom")):
        record(tmp_path / half / speaker / "x.WAV".lower())
        text(tmp_path / half / speaker / "x.txt", f"\ufeffof {speaker}\r\n")
    record(tmp_path / "train" / "ben" / "alone.flac")
    found = read(tmp_path)
    assert found.layout == "pairs of files"
    assert rows(found.train) == [("anna", "of anna"), ("ben", "of ben")]
    assert rows(found.test) == [("tom", "of tom")] and seconds(found.train) == [1.0, 1.0]
    assert found.left_out == {"train: no text file": 1}
    assert "found no alone.txt beside it" in found.faults[0]


def test_pairs_in_one_folder_are_one_speaker(tmp_path, record, text):
    record(tmp_path / "memo.wav")
    text(tmp_path / "memo.txt", "buy milk")
    found = read(tmp_path)
    assert rows(found.train) == [("speaker", "buy milk")] and "one speaker" in found.notes[0]


def test_a_folder_in_no_layout_says_what_is_read(tmp_path, record):
    record(tmp_path / "a.wav")
    with pytest.raises(recordings.DataError, match="found no recordings with texts, wanted one of"):
        read(tmp_path)
    with pytest.raises(recordings.DataError, match=r"Kaldi: wav\.scp and text"):
        read(tmp_path)


def test_one_of_several_languages_is_chosen(tmp_path, record, text):
    for language in ("de", "fr"):
        record(tmp_path / language / "clips" / "a.mp3")
        line = cv_line("c", "a.mp3", language).replace("\tde\t", f"\t{language}\t")
        text(tmp_path / language / "train.tsv", CV_HEADER + line)
    assert rows(read(tmp_path, language="fr").train) == [("c", "fr")]
    with pytest.raises(recordings.DataError, match="in each of de, fr, wanted one of these"):
        read(tmp_path)
