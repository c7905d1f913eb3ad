"""The comparison of runs as a CSV file, for tables and plots made elsewhere."""

import csv
import io
from pathlib import Path

from efmodel import atomic_file
from server_app.results.comparison import RATES, Method, SeedStatistics

COLUMNS = [
    "method", "seeds", "exit", "wer", "wer-deviation", "cer", "cer-deviation",
    "client-updates", "seconds-heard", "multiply-adds", "bytes",
]  # fmt: skip


def write_table(methods: list[Method], folder: Path) -> Path:
    """Write ``comparison.csv`` with a row for each method and exit; return its path.

    Error rates are fractions after the last evaluated round: the mean over seeds and the sample
    standard deviation. The four costs are means over seeds, of the whole method rather than of the
    exit. A cell is empty if no client trained that exit, if there is only one seed (deviation), if
    nothing was sent (bytes), or if the figure is unknown.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for method in methods:
        costs = [
            _mean(method.client_updates()),
            _mean(method.trained_seconds()),
            _mean(method.multiply_adds()),
            _mean(method.bytes()),
        ]
        wer_and_cer = zip(*map(method.final, RATES), strict=True)
        for exit, (wer, cer) in enumerate(wer_and_cer, start=1):
            rates = [_mean(wer), _deviation(wer), _mean(cer), _deviation(cer)]
            table.writerow([method.label, len(method.repetitions), exit, *rates, *costs])
    file = folder / "comparison.csv"
    atomic_file.write(file, text.getvalue().encode())
    return file


def _mean(statistics: SeedStatistics | None) -> float | None:
    return statistics.mean if statistics else None


def _deviation(statistics: SeedStatistics | None) -> float | None:
    return statistics.deviation if statistics else None
