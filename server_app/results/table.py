"""The comparison of runs as a CSV file, for whoever makes tables and pictures of their own."""

import csv
import io
from pathlib import Path

from efmodel import atomic_file
from server_app.results.comparison import RATES, Method, Spread

COLUMNS = [
    "method", "seeds", "exit", "wer", "wer-deviation", "cer", "cer-deviation",
    "client-updates", "seconds-heard", "multiply-adds", "bytes",
]  # fmt: skip


def write_table(methods: list[Method], folder: Path) -> Path:
    """Write ``comparison.csv``, a row for each method and exit; return where it is.

    Rates are shares after the last evaluated round, means over seeds with the sample standard
    deviation; the four costs are means over seeds, of the whole method and not of the exit. Empty:
    nobody trained that exit, there is one seed, nothing was sent, or it is unknown.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for method in methods:
        spreads = (method.updates(), method.heard(), method.computed(), method.sent())
        costs = [_mean(each) for each in spreads]
        for exit, found in enumerate(zip(*map(method.final, RATES), strict=True), start=1):
            rates = [value for each in found for value in (_mean(each), _deviation(each))]
            about = [method.label, len(method.repetitions), exit]
            table.writerow([*about, *rates, *costs])
    file = folder / "comparison.csv"
    atomic_file.write(file, text.getvalue().encode())
    return file


def _mean(found: Spread | None) -> float | None:
    return found.mean if found else None


def _deviation(found: Spread | None) -> float | None:
    return found.deviation if found else None
