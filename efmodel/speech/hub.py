"""Read corpora on the Hugging Face Hub, or local copies of their repositories.

Only parquet files are read, and only those of the requested halves. Loading scripts are not used;
datasets 5 refuses them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, load_dataset
from datasets.utils.logging import disable_progress_bar

from efmodel.speech.hub_sources import SOURCES, Source
from efmodel.speech.layouts.reading import NO_SPEAKER_COLUMN, ONE_SPEAKER
from efmodel.speech.recordings import FEATURES, Corpus, DataError, Limits

PATIENCE = 1000  # stop streaming after this many consecutive rows that are not needed


NOT_SPEECH = ("ignore_time_segment_in_scoring", "inter_segment_gap")  # transcripts in TED-LIUM
NO_SPEAKER = ("", "None", "N/A", "nan")  # speakers in VoxPopuli and tables made from it


def load(name: str, data_path: str, limits: Limits) -> Corpus:
    """Return the corpus ``name`` from the Hub, or from ``data_path``, a copy of its repository.

    Rows without a transcript, and training rows without a speaker, are left out and counted.

    Raises
    ------
    DataError
        If the corpus cannot be read, has other columns, no usable row, or not this language.
    """
    source = SOURCES[name].in_language(limits.language)
    left_out: Counter[str] = Counter()
    train = _half(name, source, data_path, limits, "train", left_out)
    test = _half(name, source, data_path, limits, "test", left_out)
    for half, dataset in (("train", train), ("test", test)):
        if len(dataset) == 0:
            raise DataError(
                f"{source.repository}: found no usable row in {half} ({dict(left_out)}), wanted "
                "rows with a transcript and a speaker"
            )
    return Corpus(
        train,
        test,
        left_out,
        layout=f"{source.repository} ({source.train})",
        languages=(limits.language or source.language,),
        notes=() if source.speaker else (NO_SPEAKER_COLUMN,),
    )


def _half(
    name: str, source: Source, data_path: str, limits: Limits, half: str, left_out: Counter[str]
) -> Dataset:
    pattern = source.train if half == "train" else source.test
    rows = _open(name, source, pattern, data_path, limits.streaming)
    columns = ["audio", *filter(None, (source.text, source.speaker))]
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
        text = row[source.text]
        speaker = row[source.speaker] if source.speaker else ONE_SPEAKER
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
    texts = rows[source.text][:]
    speakers = rows[source.speaker][:] if source.speaker else [ONE_SPEAKER] * len(texts)
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
