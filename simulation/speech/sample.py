"""The corpus that ships with the project: SYNTHETIC speech, from ``make_sample.py``."""

from importlib.resources import as_file, files

import pyarrow.compute
import pyarrow.parquet
from datasets import Dataset

from efmodel.speech.recordings import FEATURES, Corpus


def load() -> Corpus:
    """Return the sample: synthetic digit strings, with no voice in both of its halves."""
    with as_file(files("simulation.speech") / "sample.parquet") as path:
        table = pyarrow.parquet.read_table(path)
    halves = []
    for split in ("train", "test"):
        rows = table.filter(pyarrow.compute.equal(table["split"], split))
        halves.append(Dataset(rows.select(list(FEATURES)).cast(FEATURES.arrow_schema)))
    return Corpus(*halves)
