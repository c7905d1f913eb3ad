"""An index of recordings: what decoding each one has shown, kept on disk.

A recording is decoded once to learn its length and whether it holds sound; later rounds and runs
look this up. All data sets and processes of a user share one file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from logging import WARNING
from pathlib import Path

from efmodel.cache_folder import cache_folder
from efmodel.config import SAMPLE_RATE
from efmodel.speech import audio

FORMAT = 2  # raise it with the columns, or when `audio.decode` returns other samples for a file
UNSAVED = 256  # measurements after which they are written: an interrupted pass keeps the others
BUSY_SECONDS = 30.0  # to wait for another process that writes
TABLE = f"recordings_{FORMAT}"
COLUMNS = (
    "key BLOB PRIMARY KEY, num_samples INTEGER, whole INTEGER, header_seconds REAL, remark TEXT, "
    "cancelled INTEGER, amplitude REAL"
)


@dataclass(frozen=True)
class Measurement:
    """What decoding a recording has shown.

    Attributes
    ----------
    num_samples : int
        At 16 kHz.
    whole : bool
        Whether it was decoded to its end: what is too long is not.
    header_seconds : float, optional
        Duration that the header gives.
    remark : str
        How the header differs from what was decoded, or an empty string.
    cancelled : bool
        Whether its channels cancel each other out; the samples are then those of the first one.
    amplitude : float
        Half the distance between its largest and its smallest sample.
    """

    num_samples: int
    whole: bool
    header_seconds: float | None
    remark: str
    cancelled: bool
    amplitude: float

    @classmethod
    def of(cls, recording: audio.Recording, longest: float) -> "Measurement":
        """Measure a recording that was decoded until it was longer than ``longest`` seconds."""
        samples = recording.samples
        return cls(
            num_samples=len(samples),
            whole=recording.seconds <= longest,
            header_seconds=recording.header_seconds,
            remark=recording.remark,
            cancelled=recording.cancelled,
            amplitude=float(samples.max() - samples.min()) / 2,
        )

    @classmethod
    def read(
        cls,
        num_samples: int,
        whole: int,
        header_seconds: float | None,
        remark: str,
        cancelled: int,
        amplitude: float,
    ) -> "Measurement":
        """Return a measurement from the columns of its row."""
        return cls(num_samples, bool(whole), header_seconds, remark, bool(cancelled), amplitude)

    @property
    def seconds(self) -> float:
        """Duration of what was decoded."""
        return self.num_samples / SAMPLE_RATE

    def suffices(self, longest: float) -> bool:
        """Return whether decoding until ``longest`` seconds would show nothing else."""
        return self.whole or self.seconds > longest


class Index:
    """Measurements by key, in a file.

    If the file cannot be read or written, recordings are measured as if it were empty.

    Parameters
    ----------
    path : Path, optional
        An SQLite database, created if it does not exist; None to keep nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None
        self._unsaved: dict[bytes, Measurement] = {}
        if path is None:
            return
        with self._or_without():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS)
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS})")

    def get(self, key: bytes) -> Measurement | None:
        """Return a recording's measurement, or None if there is none."""
        if key in self._unsaved:
            return self._unsaved[key]
        with self._or_without():
            if self._database is not None:
                found = self._database.execute(f"SELECT * FROM {TABLE} WHERE key = ?", [key])
                row = found.fetchone()
                return None if row is None else Measurement.read(*row[1:])
        return None

    def put(self, key: bytes, measurement: Measurement) -> None:
        """Keep a measurement in place of an earlier one."""
        self._unsaved[key] = measurement
        if len(self._unsaved) >= UNSAVED:
            self.save()

    def save(self) -> None:
        """Write the new measurements to the file, all or none."""
        rows = [(key, *astuple(measurement)) for key, measurement in self._unsaved.items()]
        self._unsaved.clear()
        places = ", ".join("?" * (1 + len(fields(Measurement))))
        with self._or_without():
            if self._database is not None and rows:
                with self._database:  # a transaction
                    self._database.executemany(
                        f"INSERT OR REPLACE INTO {TABLE} VALUES ({places})", rows
                    )

    def close(self) -> None:
        """Write what is new, and close the file."""
        self.save()
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on without the file if it fails; remove it if it is damaged."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            from flwr.common import log  # takes a second to import

            log(WARNING, "%s: cannot be used (%s); recordings are checked again", self.path, error)
            if self._database is not None:
                self._database.close()
                self._database = None
            if self.path and type(error) is sqlite3.DatabaseError:  # damaged
                self.path.unlink(missing_ok=True)


@contextmanager
def opened() -> Iterator[Index]:
    """Open this user's index, and close it."""
    path: Path | None = None
    with suppress(RuntimeError):  # a user without a home
        path = cache_folder() / "recordings.sqlite"
    index = Index(path)
    try:
        yield index
    finally:
        index.close()
