"""Corpora on the Hugging Face Hub: repositories, columns, and spelling of the transcripts.

Only parquet files are read, and only those of the requested halves. Loading scripts are not used;
datasets 5 refuses them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, load_dataset
from datasets.utils.logging import disable_progress_bar

from efmodel.speech.recordings import FEATURES, Corpus, DataError, Limits

PATIENCE = 1000  # stop streaming after this many consecutive rows that are not needed


def lower(text: str) -> str:
    """Convert transcripts in upper case to lower case."""
    return text.lower()


def join_clitics(text: str) -> str:
    """Convert TED-LIUM's spelling: "it 's <unk> you" becomes "it's you"."""
    text = re.sub(r"<[^>]*>", " ", text)
    # TED-LIUM writes a space before a contraction ("it 's") and a possessive apostrophe ("the
    # students ' work"). In "just 'cause" the apostrophe starts a word, and the space stays.
    return re.sub(r"\s+'(?=(?:s|t|re|ve|ll|d|m)?(?:\s|$))", "'", text)


def unquote(text: str) -> str:
    """Remove punctuation, and single quotes that are not inside a word."""
    text = text.translate(dict.fromkeys(map(ord, "\u2018\u2019\u0060\u00b4"), "'"))
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return re.sub(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u2026.,;:?!()\[\]]", " ", text)


@dataclass(frozen=True)
class Source:
    """A corpus on the Hub.

    Attributes
    ----------
    repository, revision : str
        Repository on the Hub, and its branch with parquet files.
    train, test : str
        Glob patterns of the parquet files of both halves, also in a local copy.
    text, speaker : str
        Names of the columns; the audio is in ``audio``.
    spell : callable
        Converts a transcript to plain spelling.
    note : str
        Known obstacle to reading it from the Hub, for an error message.
    """

    repository: str
    train: str
    test: str
    text: str
    speaker: str
    spell: Callable[[str], str]
    revision: str = "main"
    note: str = ""


SOURCES = {
    "librispeech": Source(
        "openslr/librispeech_asr",
        "clean/train.100/*.parquet",
        "clean/test/*.parquet",
        text="text",
        speaker="speaker_id",
        spell=lower,
    ),
    "tedlium": Source(
        "LIUM/tedlium",
        "release3/train/*.parquet",
        "release3/test/*.parquet",
        text="text",
        speaker="speaker_id",
        spell=join_clitics,
        revision="refs/convert/parquet",
        note="The repository itself holds archives and a loading script, and may ask for a login.",
    ),
    "voxpopuli": Source(
        "facebook/voxpopuli",
        "en/train-*.parquet",
        "en/test-*.parquet",
        text="normalized_text",
        speaker="speaker_id",
        spell=str,
    ),
    "commonvoice": Source(
        "mozilla-foundation/common_voice_17_0",
        "en/train/*.parquet",
        "en/test/*.parquet",
        text="sentence",
        speaker="client_id",
        spell=unquote,
        revision="refs/convert/parquet",
        note="Mozilla took Common Voice off the Hub in 2025 and gives it out itself.",
    ),
    "speechocean762": Source(
        "mispeech/speechocean762",
        "data/train-*.parquet",
        "data/test-*.parquet",
        text="text",
        speaker="speaker",
        spell=lower,
    ),
}
NOT_SPEECH = ("ignore_time_segment_in_scoring", "inter_segment_gap")  # transcripts in TED-LIUM
NO_SPEAKER = ("", "None", "N/A", "nan")  # speakers in VoxPopuli and tables made from it


def load(name: str, data_path: str, limits: Limits) -> Corpus:
    """Return the corpus ``name`` from the Hub, or from ``data_path``, a copy of its repository.

    Rows without a transcript, and training rows without a speaker, are left out and counted.

    Raises
    ------
    DataError
        If the corpus cannot be read, has other columns, or no usable row.
    """
    source = SOURCES[name]
    left_out: Counter[str] = Counter()
    train = _half(name, data_path, limits, "train", left_out)
    test = _half(name, data_path, limits, "test", left_out)
    for half, dataset in (("train", train), ("test", test)):
        if len(dataset) == 0:
            raise DataError(
                f"{source.repository}: found no usable row in {half} ({dict(left_out)}), wanted "
                "rows with a transcript and a speaker"
            )
    return Corpus(train, test, left_out)


def _half(name: str, data_path: str, limits: Limits, half: str, left_out: Counter[str]) -> Dataset:
    source = SOURCES[name]
    pattern = source.train if half == "train" else source.test
    rows = _open(name, source, pattern, data_path, limits.streaming)
    columns = ["audio", source.text, source.speaker]
    names = list(rows.features or next(iter(rows)))
    if missing := [column for column in columns if column not in names]:
        raise DataError(
            f"{name}, {half}: found columns {', '.join(sorted(names))}, wanted "
            f"{', '.join(columns)}: {', '.join(missing)} missing"
        )
    rows = rows.select_columns(columns).cast_column("audio", Audio(decode=False))
    if not limits.streaming:
        return _all_rows(rows, source, half, left_out)
    try:
        usable = _first(_usable(rows, source, half, left_out), limits)
        return Dataset.from_list(list(usable), features=FEATURES)
    except Exception as error:  # a stream fails while it is read, with the errors of _open
        raise _unreadable(name, source, error) from error


def _open(name: str, source: Source, pattern: str, data_path: str, streaming: bool) -> Any:
    """Return the rows of one half with the columns of their parquet files."""
    if data_path:
        folder = Path(data_path).expanduser()
        if not any(folder.glob(pattern)):
            raise DataError(
                f"data-path: found no {pattern} in {folder}, wanted a copy of {source.repository}"
            )
        where = str(folder)
    else:
        where = f"hf://datasets/{source.repository}@{source.revision.replace('/', '%2F')}"
    disable_progress_bar()
    try:
        files = {"half": f"{where}/{pattern}"}
        return load_dataset("parquet", data_files=files, split="half", streaming=streaming)
    except Exception as error:  # the type depends on the HTTP library of the Hub's client
        raise _unreadable(name, source, error) from error


def _unreadable(name: str, source: Source, error: Exception) -> DataError:
    reason = (str(error) or repr(error)).splitlines()[0].rstrip(".")
    sentences = [
        f"data: could not read {name} from {source.repository}: {reason}.",
        source.note,
        f"data-path=FOLDER reads a local copy of its parquet files ({source.train} ...)",
    ]
    return DataError(" ".join(filter(None, sentences)))


def _reason_to_leave_out(text: str | None, speaker: Any, half: str) -> str:
    """Return why a row cannot be used, or an empty string."""
    transcript = (text or "").strip()
    if not transcript:
        return "no transcript"
    if transcript.lower() in NOT_SPEECH:
        return transcript.lower()
    if half == "train" and (speaker is None or str(speaker) in NO_SPEAKER):
        return "no speaker"
    return ""


def _usable(
    rows: Iterable[dict[str, Any]], source: Source, half: str, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    for row in rows:
        text, speaker = row[source.text], row[source.speaker]
        if reason := _reason_to_leave_out(text, speaker, half):
            left_out[f"{half}: {reason}"] += 1
        else:
            yield {"audio": row["audio"], "text": source.spell(text), "speaker": str(speaker)}


def _first(rows: Iterable[dict[str, Any]], limits: Limits) -> Iterator[dict[str, Any]]:
    """Yield ``max_utterances`` rows of each of the first ``max_speakers`` speakers, then stop."""
    counts: Counter[str] = Counter()
    unneeded = 0  # consecutive rows
    for row in rows:
        speaker = row["speaker"]
        chosen = speaker in counts or len(counts) < limits.max_speakers
        if chosen and counts[speaker] < limits.max_utterances:
            counts[speaker] += 1
            unneeded = 0
            yield row
        else:
            unneeded += 1
        full = len(counts) == limits.max_speakers and min(counts.values()) == limits.max_utterances
        if full or unneeded == PATIENCE:
            return


def _all_rows(rows: Dataset, source: Source, half: str, left_out: Counter[str]) -> Dataset:
    """Return all usable rows; the audio stays in the memory-mapped parquet cache."""
    texts, speakers = rows[source.text][:], rows[source.speaker][:]
    keep: list[int] = []
    for index, (text, speaker) in enumerate(zip(texts, speakers, strict=True)):
        if reason := _reason_to_leave_out(text, speaker, half):
            left_out[f"{half}: {reason}"] += 1
        else:
            keep.append(index)
    columns = Dataset.from_dict(
        {"text": [source.spell(t or "") for t in texts], "speaker": [str(s) for s in speakers]}
    )
    table = rows.data.table.select(["audio"])
    for column in ("text", "speaker"):
        table = table.append_column(column, columns.data.table[column])
    return Dataset(table.cast(FEATURES.arrow_schema)).select(keep)
