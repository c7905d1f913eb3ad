"""Corpora by name: where each lies on the Hub, its columns, and how its texts are written.

They are read from their parquet files alone: only the halves that are wanted travel, and nothing
is asked of a loading script, which datasets 5 would refuse.
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

PATIENCE = 1000  # rows read in vain before a stream is left: it is sorted by speaker, or done


def lower(text: str) -> str:
    """Undo upper case throughout."""
    return text.lower()


def join_clitics(text: str) -> str:
    """Undo TED-LIUM's spelling: "it 's <unk> you" is "it's you"."""
    text = re.sub(r"<[^>]*>", " ", text)
    # A space stands before what is short for a word (or for none: "the students ' work"), but
    # "just 'cause" are two words.
    return re.sub(r"\s+'(?=(?:s|t|re|ve|ll|d|m)?(?:\s|$))", "'", text)


def unquote(text: str) -> str:
    """Undo print: punctuation, and single quotes that are not within a word."""
    text = text.translate(dict.fromkeys(map(ord, "\u2018\u2019\u0060\u00b4"), "'"))
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return re.sub(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u2026.,;:?!()\[\]]", " ", text)


@dataclass(frozen=True)
class Source:
    """A corpus on the Hub.

    Attributes
    ----------
    repository, revision : str
        Whose parquet files are read.
    train, test : str
        Which of them, as patterns; a local copy has the same.
    text, speaker : str
        Names of the columns; the audio's is ``audio`` in all of them.
    spell : callable
        Undoes the corpus's own way of writing.
    note : str
        What stands in the way of reading it from the Hub.
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
NOT_SPEECH = ("ignore_time_segment_in_scoring", "inter_segment_gap")  # TED-LIUM's marks
NOBODY = ("", "None", "N/A", "nan")  # how VoxPopuli and tables made from it say no speaker


def load(name: str, data_path: str, limits: Limits) -> Corpus:
    """Return the corpus ``name`` from the Hub, or from ``data_path``, a copy of its repository.

    Left out and counted: rows without a transcript, and, to train, without a speaker.

    Raises
    ------
    DataError
        If it cannot be read, or has other columns.
    """
    source = SOURCES[name]
    left_out: Counter[str] = Counter()
    train = _half(name, data_path, limits, "train", left_out)
    test = _half(name, data_path, limits, "test", left_out)
    for half, dataset in (("train", train), ("test", test)):
        if len(dataset) == 0:
            raise DataError(
                f"{source.repository}: found no usable row in {half} ({dict(left_out)})"
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
        return _whole(rows, source, half, left_out)
    try:
        usable = _first(_usable(rows, source, half, left_out), limits)
        return Dataset.from_list(list(usable), features=FEATURES)
    except Exception as error:  # a stream breaks where it is read, see _open
        raise _unreadable(name, source, error) from error


def _open(name: str, source: Source, pattern: str, data_path: str, streaming: bool) -> Any:
    """Return the rows of one half, as their parquet files have them."""
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
    except Exception as error:  # of whichever HTTP library the Hub's client is built on
        raise _unreadable(name, source, error) from error


def _unreadable(name: str, source: Source, error: Exception) -> DataError:
    reason = (str(error) or repr(error)).splitlines()[0].rstrip(".")
    said = [f"data: could not read {name} from {source.repository}: {reason}.", source.note]
    said.append(f"data-path=FOLDER reads a local copy of its parquet files ({source.train} ...)")
    return DataError(" ".join(filter(None, said)))


def _complaint(text: str | None, speaker: Any, half: str) -> str:
    """Say why a row is of no use, or nothing."""
    found = (text or "").strip()
    if not found:
        return "no transcript"
    if found.lower() in NOT_SPEECH:
        return found.lower()
    if half == "train" and (speaker is None or str(speaker) in NOBODY):
        return "no speaker"
    return ""


def _usable(
    rows: Iterable[dict[str, Any]], source: Source, half: str, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    for row in rows:
        text, speaker = row[source.text], row[source.speaker]
        if reason := _complaint(text, speaker, half):
            left_out[f"{half}: {reason}"] += 1
        else:
            yield {"audio": row["audio"], "text": source.spell(text), "speaker": str(speaker)}


def _first(rows: Iterable[dict[str, Any]], limits: Limits) -> Iterator[dict[str, Any]]:
    """Yield the first ``max_utterances`` of the first ``max_speakers``; read no further."""
    counts: Counter[str] = Counter()
    in_vain = 0
    for row in rows:
        speaker = row["speaker"]
        known = speaker in counts or len(counts) < limits.max_speakers
        if known and counts[speaker] < limits.max_utterances:
            counts[speaker] += 1
            in_vain = 0
            yield row
        else:
            in_vain += 1
        full = len(counts) == limits.max_speakers and min(counts.values()) == limits.max_utterances
        if full or in_vain == PATIENCE:
            return


def _whole(rows: Dataset, source: Source, half: str, left_out: Counter[str]) -> Dataset:
    """Return all usable rows; the audio stays where it is, in a file mapped into memory."""
    texts, speakers = rows[source.text][:], rows[source.speaker][:]
    keep: list[int] = []
    for index, (text, speaker) in enumerate(zip(texts, speakers, strict=True)):
        if reason := _complaint(text, speaker, half):
            left_out[f"{half}: {reason}"] += 1
        else:
            keep.append(index)
    own = Dataset.from_dict(
        {"text": [source.spell(t or "") for t in texts], "speaker": [str(s) for s in speakers]}
    )
    table = rows.data.table.select(["audio"])
    for column in ("text", "speaker"):
        table = table.append_column(column, own.data.table[column])
    return Dataset(table.cast(FEATURES.arrow_schema)).select(keep)
