"""Names of the columns that hold a table's audio file, text, speaker and times."""

from collections.abc import Container, Iterable, Mapping

# Names that people and tools give to a column, the preferred one first.
NAMES = {
    "audio": (
        "file_name", "audio", "audio_filepath", "audio_file", "audio_path", "path", "filename",
        "filepath", "file", "wav_filename", "wav_path", "wav", "clip",
    ),
    "text": (
        "text", "transcription", "transcript", "sentence", "normalized_text", "transcription_text",
        "utterance", "label",
    ),
    "speaker": (
        "speaker", "speaker_id", "client_id", "speaker_name", "spk_id", "spk", "user_id", "user",
        "reader",
    ),
    "start": ("start", "offset", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration",),
    "split": ("split", "subset", "partition"),
    "language": ("language", "locale", "lang"),
}  # fmt: skip
WANTED = f"pairs such as text=satz,speaker=wer; the first words are {', '.join(NAMES)}"

Columns = Mapping[str, str]  # the column of each part of a row, such as {"text": "satz"}


def parse(columns: str) -> dict[str, str]:
    """Return the run config's ``columns`` as {part of a row: column}.

    Raises
    ------
    ValueError
        If it has another form, or names a part that a row does not have.
    """
    chosen: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in columns.split(","))):
        part, _, column = (word.strip() for word in pair.partition("="))
        if part not in NAMES or not column:
            raise ValueError(f"columns: found {pair!r}, wanted {WANTED}")
        chosen[part] = column
    return chosen


def find(names: Iterable[str], chosen: Columns) -> dict[str, str]:
    """Return the column of each part of a row that the table has.

    Parameters
    ----------
    names : Iterable[str]
        The table's columns. Capital letters, spaces and hyphens in them do not matter.
    chosen : Columns
        The columns that the run config names; they come before those in ``NAMES``.
    """
    plain = {_plain(name): name for name in names}
    found: dict[str, str] = {}
    for part, usual in NAMES.items():
        for name in (chosen[part],) if part in chosen else usual:
            if _plain(name) in plain:
                found[part] = plain[_plain(name)]
                break
    return found


def missing(names: Iterable[str], chosen: Columns, parts: Container[str] = NAMES) -> str:
    """Return what is wrong with a table's columns, or an empty string.

    A table needs columns for audio file and text, and those that the run config names, as far as
    these are among the ``parts`` that are to be read.
    """
    names = list(names)
    found = find(names, chosen)
    needed = [part for part in dict.fromkeys(("audio", "text", *chosen)) if part in parts]
    lacking = [part for part in needed if part not in found]
    if not lacking:
        return ""
    wanted = "; ".join(
        f"{part}: {chosen[part] if part in chosen else ' or '.join(NAMES[part][:4]) + ' ...'}"
        for part in lacking
    )
    return (
        f"found columns {', '.join(sorted(names))}, wanted {wanted}. The key columns names others, "
        'such as columns="text=satz,speaker=wer"'
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
