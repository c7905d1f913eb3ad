"""The format of a corpus, and local folders in it.

A corpus consists of ``datasets.Dataset`` with the columns ``audio`` (undecoded ``bytes`` or a
``path``), ``text`` and ``speaker``. A path may be that of a part of a file
(:mod:`efmodel.speech.segments`).
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Features, Value

from efmodel.errors import DataError as DataError  # part of this module's interface
from efmodel.settings import Settings
from efmodel.speech.layouts.columns import parse
from efmodel.speech.layouts.layout import Row
from efmodel.speech.layouts.reading import ONE_SPEAKER, describe, read
from efmodel.speech.segments import with_times

FEATURES = Features(
    {
        "audio": {"bytes": Value("binary"), "path": Value("string")},
        "text": Value("string"),
        "speaker": Value("string"),
    }
)


@dataclass(frozen=True)
class Corpus:
    """Recordings to train on and recordings to test on.

    Attributes
    ----------
    train : Dataset
        May be empty.
    test : Dataset, optional
        None if the corpus has no test half.
    left_out : Counter
        Number of unusable rows by half and reason.
    faults : list of str
        Of a folder's unusable rows: file, line, what was found and what was wanted.
    layout : str
        Name of a folder's layout.
    languages : tuple of str
        As the layout names them, the commonest first; empty if it does not say.
    notes : tuple of str
        What a user should know of how a folder was read.
    """

    train: Dataset
    test: Dataset | None
    left_out: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    layout: str = ""
    languages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The part of a corpus that is read, and how.

    Attributes
    ----------
    streaming : bool
        Whether rows are read one by one, until ``max_speakers`` speakers have ``max_utterances``
        each.
    max_speakers : int
        Number of training speakers, the first ones of the corpus; 0 for all.
    max_utterances : int
        Utterances per speaker when streaming.
    tune_speakers : int
        Number of training speakers to test on in place of the corpus's test half, which is not
        used; 0 to use it.
    language : str
        Language of a corpus that has several; empty for the first one.
    columns : str
        What a folder's table calls its columns.
    """

    streaming: bool = False
    max_speakers: int = 0
    max_utterances: int = 0
    tune_speakers: int = 0
    language: str = ""
    columns: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits in a run config."""
        return cls(
            settings.data_streaming,
            settings.max_speakers,
            settings.max_utterances,
            settings.tune_speakers,
            settings.language,
            settings.columns,
        )


def audiofolder(folder: Path, columns: str = "", language: str = "") -> Corpus:
    """Read a local folder of recordings and texts, in any of the layouts that are known.

    Rows that cannot be used are left out.

    Parameters
    ----------
    folder : Path
        The folder; what its layout names "train" is to train on, "test" (or else "dev") to test.
    columns : str
        The run config's ``columns``: what a table calls audio file, text and speaker.
    language : str
        The folder to open where there is one for each language.

    Raises
    ------
    DataError
        If the folder is missing or malformed, or has no usable row; the message gives the file,
        line and column.
    """
    if not folder.is_dir():
        raise DataError(f"data-path: found no folder {folder}, wanted one with recordings")
    contents = read(folder, parse(columns), language)
    train, test = contents.train_and_test()
    left_out: Counter[str] = Counter()
    for half, faults in contents.faults.items():
        left_out.update(f"{half}: {fault.kind}" for fault in faults)
    return Corpus(
        _dataset(train),
        None if test is None else _dataset(test),
        left_out,
        [describe(fault) for faults in contents.faults.values() for fault in faults],
        layout=contents.layout.name,
        languages=tuple(name for name, _ in contents.languages().most_common()),
        notes=tuple(contents.notes()),
    )


def _dataset(rows: list[Row]) -> Dataset:
    sounds = [with_times(row.audio, row.start, row.end) for row in rows]
    table = {
        "audio": [{"bytes": None, "path": sound} for sound in sounds],
        "text": [row.text for row in rows],
        "speaker": [row.speaker or ONE_SPEAKER for row in rows],
    }
    return Dataset.from_dict(table, features=FEATURES)


def speakers(dataset: Dataset) -> list[str]:
    """Return the names of a data set's speakers, sorted."""
    return sorted(set(dataset["speaker"]))
