"""Corpora by name, from tiny copies of their repositories in each one's real schema."""

import io

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Features, Value

from efmodel.speech import corpus, hub, recordings
from efmodel.speech.hub_sources import SOURCES
from efmodel.speech.recordings import Limits
from efmodel.speech.utterances import prepare
from tests.conftest import small_config, tone

STRING, INTEGER = Value("string"), Value("int64")
SPEECH = Audio(sampling_rate=16_000)
WORD = {
    "accuracy": INTEGER,
    "phones": [STRING],
    "phones-accuracy": [Value("float64")],
    "stress": INTEGER,
    "text": STRING,
    "total": INTEGER,
    "mispronunciations": [
        {"canonical-phone": STRING, "index": INTEGER, "pronounced-phone": STRING}
    ],
}
SCHEMAS = {
    "librispeech": {
        "file": STRING,
        "audio": SPEECH,
        "text": STRING,
        "speaker_id": INTEGER,
        "chapter_id": INTEGER,
        "id": STRING,
    },
    "tedlium": {
        "audio": SPEECH,
        "text": STRING,
        "speaker_id": STRING,
        "gender": ClassLabel(names=["unknown", "female", "male"]),
        "file": STRING,
        "id": STRING,
    },
    "voxpopuli": {
        "audio_id": STRING,
        "language": ClassLabel(names=["en", "de", "fr"]),
        "audio": SPEECH,
        "raw_text": STRING,
        "normalized_text": STRING,
        "gender": STRING,
        "speaker_id": STRING,
        "is_gold_transcript": Value("bool"),
        "accent": STRING,
    },
    "commonvoice": {
        "client_id": STRING,
        "path": STRING,
        "audio": Audio(sampling_rate=48_000),
        "sentence": STRING,
        "up_votes": INTEGER,
        "down_votes": INTEGER,
        "age": STRING,
        "gender": STRING,
        "accent": STRING,
        "locale": STRING,
        "segment": STRING,
        "variant": STRING,
    },
    "mls": {
        "audio": SPEECH,
        "original_path": STRING,
        "begin_time": Value("float64"),
        "end_time": Value("float64"),
        "transcript": STRING,
        "audio_duration": Value("float64"),
        "speaker_id": STRING,
        "chapter_id": STRING,
        "file": STRING,
        "id": STRING,
    },
    "fleurs": {
        "id": Value("int32"),
        "num_samples": Value("int32"),
        "path": STRING,
        "audio": SPEECH,
        "transcription": STRING,
        "raw_transcription": STRING,
        "gender": ClassLabel(names=["male", "female", "other"]),
        "lang_id": ClassLabel(names=["de_de", "en_us"]),
        "language": STRING,
        "lang_group_id": ClassLabel(names=["western_european_we"]),
    },
    "speechocean762": {
        "accuracy": INTEGER,
        "completeness": Value("float64"),
        "fluency": INTEGER,
        "prosodic": INTEGER,
        "text": STRING,
        "total": INTEGER,
        "words": [WORD],
        "speaker": STRING,
        "gender": STRING,
        "age": INTEGER,
        "audio": SPEECH,
    },
}
FILES = {
    "librispeech": ("clean/train.100/0000.parquet", "clean/test/0000.parquet"),
    "tedlium": ("release3/train/0000.parquet", "release3/test/0000.parquet"),
    "voxpopuli": ("en/train-00000-of-00001.parquet", "en/test-00000-of-00001.parquet"),
    "commonvoice": ("en/train/0000.parquet", "en/test/0000.parquet"),
    "mls": ("german/train-00000-of-00001.parquet", "german/test-00000-of-00001.parquet"),
    "fleurs": ("en_us/train/0000.parquet", "en_us/test/0000.parquet"),
    "speechocean762": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
}
# What the corpus writes, and what is said.
TEXTS = {
    "librispeech": ("CONCORD RETURNED TO ITS PLACE", "concord returned to its place"),
    "tedlium": ("it 's <unk> just 'cause you didn 't", "it's just 'cause you didn't"),
    "voxpopuli": ("thank you mister president", "thank you mister president"),
    "commonvoice": ("\"Don’t say 'yes' yet,\" he said.", "don't say yes yet he said"),
    "mls": ("es war einmal", "es war einmal"),
    "fleurs": ("a tornado is a spinning column", "a tornado is a spinning column"),
    "speechocean762": ("MARK IS GOING TO SEE ELEPHANT", "mark is going to see elephant"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def flac(seconds: float = 3.0, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate), rate, format="FLAC")
    return file.getvalue()


def write(folder, name, rows, half=0, place=None):
    """Write ``(speaker, text)`` rows, or ``(speaker, text, audio bytes)``, as the Hub has them."""
    source, features = SOURCES[name], Features(SCHEMAS[name])
    table = []
    for number, (speaker, text, *sound) in enumerate(rows):
        audio = {"bytes": sound[0] if sound else flac(), "path": f"{number}.flac"}
        row = {"audio": audio, source.text: text, source.speaker or "id": speaker}
        table.append({column: row.get(column) for column in features})
    path = folder / (place or FILES[name][half])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=features.arrow_schema), path)
    return folder


def speaker(name, number):
    return number if name in ("librispeech", "fleurs") else f"s{number}"


def named(name, number):
    return "speaker" if name == "fleurs" else str(speaker(name, number))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", list(SOURCES))
def test_a_corpus_in_its_own_schema_becomes_speech_and_words(tmp_path, tokenizer, name, streaming):
    written, said = TEXTS[name]
    rows = [(speaker(name, 7), written), (speaker(name, 8), written)]
    write(tmp_path, name, rows)
    write(tmp_path, name, [(speaker(name, 9), written)], half=1)
    limits = Limits(streaming=True, max_speakers=5, max_utterances=5) if streaming else Limits()
    found = corpus.load(name, str(tmp_path), limits)
    assert found.train["speaker"][:] == [named(name, 7), named(name, 8)]
    assert found.test["speaker"][:] == [named(name, 9)]
    assert found.train.features == recordings.FEATURES and not found.left_out
    utterances, skipped = prepare(found.train, tokenizer, small_config(), to_train=True)
    assert [u.text for u in utterances] == [said, said] and utterances[0].seconds == 3.0
    assert not skipped.recordings and not skipped.characters


@pytest.mark.parametrize(
    ("name", "language", "places"),
    [
        ("commonvoice", "de", ("de/train/0000.parquet", "de/test/0000.parquet")),
        ("commonvoice", "zh-CN", ("zh-CN/train/0000.parquet", "zh-CN/test/0000.parquet")),
        ("voxpopuli", "pl", ("pl/train-0-of-1.parquet", "pl/test-0-of-1.parquet")),
        ("mls", "fr", ("french/train-0-of-1.parquet", "french/test-0-of-1.parquet")),
        ("fleurs", "ar", ("ar_eg/train/0000.parquet", "ar_eg/test/0000.parquet")),
        ("fleurs", "zh", ("cmn_hans_cn/train/0000.parquet", "cmn_hans_cn/test/0000.parquet")),
        ("fleurs", "pt_br", ("pt_br/train/0000.parquet", "pt_br/test/0000.parquet")),
    ],
)
def test_a_language_of_a_corpus_that_has_several(tmp_path, name, language, places):
    for half, place in enumerate(places):
        write(tmp_path, name, [(speaker(name, 7), "ein wort")], half, place)
    found = corpus.load(name, str(tmp_path), Limits(language=language))
    assert found.languages == (language,) and found.train["text"][:] == ["ein wort"]
    with pytest.raises(recordings.DataError, match="data-path: found no "):
        corpus.load(name, str(tmp_path), Limits(language="et" if name != "mls" else "it"))


def test_a_language_that_a_corpus_does_not_have_is_named(tmp_path):
    wanted = "language: found 'ar', wanted one that facebook/voxpopuli has: cs, de, en"
    with pytest.raises(recordings.DataError, match=wanted):
        corpus.load("voxpopuli", str(tmp_path), Limits(language="ar"))
    with pytest.raises(recordings.DataError, match="language: found 'de', wanted one that openslr"):
        corpus.load("librispeech", str(tmp_path), Limits(language="de"))


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        (
            "tedlium",
            "the students ' work we 're they 'll i 'd",
            "the students' work we're they'll i'd",
        ),
        ("tedlium", "rock 'n roll 'twas", "rock 'n roll 'twas"),
        ("commonvoice", "“It’s the dogs’ dinner!”", "It's the dogs dinner"),
        ("commonvoice", "‘Why?’ … (no)", "Why no"),
    ],
)
def test_ways_of_writing_are_undone(name, written, said):
    assert " ".join(SOURCES[name].spell(written).split()) == said


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_no_use_are_left_out_and_counted(tmp_path, streaming):
    rows = [("a", "one"), ("b", "ignore_time_segment_in_scoring"), ("c", ""), ("c", None)]
    write(tmp_path / "t", "tedlium", rows)
    write(tmp_path / "t", "tedlium", [("z", "two"), ("z", "IGNORE_TIME_SEGMENT_IN_SCORING")], 1)
    write(tmp_path / "v", "voxpopuli", [("None", "one"), (None, "one"), ("1", "two"), ("2", " ")])
    write(tmp_path / "v", "voxpopuli", [("None", "three")], half=1)
    limits = Limits(streaming=True, max_speakers=5, max_utterances=5) if streaming else Limits()
    ted = corpus.load("tedlium", str(tmp_path / "t"), limits)
    assert (ted.train["text"][:], ted.test["text"][:]) == (["one"], ["two"])
    mark = "ignore_time_segment_in_scoring"
    assert ted.left_out == {f"train: {mark}": 1, "train: no transcript": 2, f"test: {mark}": 1}
    vox = corpus.load("voxpopuli", str(tmp_path / "v"), limits)
    assert vox.train["speaker"][:] == ["1"] and len(vox.test) == 1  # a test needs no speaker
    assert vox.left_out == {"train: no speaker": 2, "train: no transcript": 1}


def test_a_stream_is_read_no_further_than_the_limits(tmp_path):
    rows = [(1 + number // 4, f"WORD {number}") for number in range(40)]
    write(tmp_path, "librispeech", rows)
    write(tmp_path, "librispeech", [(99, "WORD")], half=1)
    limits = Limits(streaming=True, max_speakers=3, max_utterances=2)
    found = corpus.load("librispeech", str(tmp_path), limits)
    assert found.train["text"][:] == [f"word {n}" for n in (0, 1, 4, 5, 8, 9)]

    def endless():
        for number in range(10**9):
            yield {"speaker": "a" if number else "b"}

    assert len(list(hub._first(endless(), Limits(True, 2, 3)))) == 4
    # Its speakers never speak as often as is wanted: it is left all the same.
    assert len(list(hub._first(endless(), Limits(True, 5, 3)))) == 4


def test_whole_corpora_may_be_limited_to_some_speakers(tmp_path):
    write(tmp_path, "librispeech", [(n % 5, "WORD") for n in range(20)])
    write(tmp_path, "librispeech", [(99, "WORD")], half=1)
    found = corpus.load("librispeech", str(tmp_path), Limits(max_speakers=2))
    assert recordings.speakers(found.train) == ["0", "1"] and len(found.train) == 8


def test_one_corrupted_recording_in_the_middle_is_named(tmp_path, tokenizer):
    good = flac()
    rows = [("a", "one", good), ("a", "two", b"ID3 but no more"), ("a", "six", good[:-9000])]
    write(tmp_path, "commonvoice", [*rows, ("a", "ten", flac(3.0, 48_000))])
    write(tmp_path, "commonvoice", [("b", "two")], half=1)
    found = corpus.load("commonvoice", str(tmp_path))
    kept, skipped = prepare(found.train, tokenizer, small_config(), to_train=True)
    assert [u.text for u in kept] == ["one", "ten"]
    assert list(dict(skipped.recordings)) == ["1.flac", "2.flac"]
    assert skipped.kinds == {"no audio": 2}


def test_other_columns_are_named(tmp_path):
    write(tmp_path, "tedlium", [("a", "one")])
    path = tmp_path / FILES["tedlium"][0]
    pq.write_table(pq.read_table(path).drop_columns(["speaker_id", "gender"]), path)
    with pytest.raises(
        recordings.DataError,
        match="tedlium, train: found columns audio, file, id, text, wanted audio, text, "
        "speaker_id: speaker_id missing",
    ):
        corpus.load("tedlium", str(tmp_path))


def test_what_is_missing_is_said_and_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(
        recordings.DataError, match=r"found no clean/train.100/\*.parquet in .*nowhere"
    ):
        corpus.load("librispeech", str(tmp_path / "nowhere"))
    with pytest.raises(
        recordings.DataError, match="could not read commonvoice.*offline.*Mozilla took"
    ):
        corpus.load("commonvoice", "")
    write(tmp_path, "librispeech", [(1, "")])
    write(tmp_path, "librispeech", [(2, "ONE")], half=1)
    with pytest.raises(recordings.DataError, match="found no usable row in train .*no transcript"):
        corpus.load("librispeech", str(tmp_path))


@pytest.mark.parametrize("limits", [Limits(True), Limits(True, 3), Limits(True, 0, 3)])
def test_a_stream_without_limits_is_refused(limits):
    with pytest.raises(recordings.DataError, match="data-streaming: found data voxpopuli"):
        corpus.load("voxpopuli", "", limits)
