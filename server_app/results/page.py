"""The page that compares several runs."""

from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from efmodel import atomic_file
from efmodel.model.compute import UTTERANCE_SECONDS
from server_app.results.comparison import RATES, Method, SeedStatistics, group
from server_app.results.plots import colour, write_pictures
from server_app.results.report import picture_base64
from server_app.results.run import Run
from server_app.results.table import write_table
from server_app.results.templates import COMPARISON_PAGE, STYLE, template
from server_app.results.versions import versions_text

NOTHING = "–"

BestValues = dict[tuple[str, int], str]  # by rate and index of the exit: the lowest, as shown


def write_comparison(folders: list[Path], output: Path) -> Path:
    """Write the comparison of the runs in ``folders``; return the path of its page.

    ``output`` receives ``comparison.html``, ``comparison.csv``, and the pictures as PNG files,
    which the page embeds too.

    Raises
    ------
    ValueError
        If a run cannot be read, or two runs are the same part of one method with one seed.
    """
    methods = group(Run.read(folder) for folder in folders)
    output = output.expanduser().resolve()
    output.mkdir(parents=True, exist_ok=True)
    write_table(methods, output)
    page = template(COMPARISON_PAGE).render(
        **_contents(methods),
        pictures=write_pictures(methods, output),
        base64_of=picture_base64,
    )
    file = output / "comparison.html"
    atomic_file.write(file, page.encode())
    return file


def _contents(methods: list[Method]) -> dict[str, Any]:
    """Return the values that the page shows."""
    runs = [run for method in methods for run in method.runs]
    data = sorted({run.data for run in runs})
    best = _best_values(methods) if len(data) == 1 else {}
    exits = max((len(method.final("wer")) for method in methods), default=0)
    environments = [versions for run in runs for versions in run.versions or [{}]]
    return {
        "style": STYLE,
        "title": f"Comparison of {len(methods)} method{'s' if len(methods) > 1 else ''}",
        "nothing": NOTHING,
        "rates": RATES,
        "exits": exits,
        "methods": [_row(number, method, best, exits) for number, method in enumerate(methods)],
        "runs": runs,
        "unfinished": sum(not run.finished for run in runs),
        "untested": any(not any(record["wer"] for record in run.rounds) for run in runs),
        "failures": sum(run.failures for run in runs),
        "data": data,
        "cohort": any(run.config["coverage"] == "cohort" for run in runs),
        "utterance_seconds": UTTERANCE_SECONDS,
        "versions": list(dict.fromkeys(map(versions_text, environments))),
    }


def _best_values(methods: list[Method]) -> BestValues:
    """Return the lowest mean of each column as it is shown, so that equal values look equal."""
    best = {}
    for rate in RATES:
        columns = zip_longest(*(method.final(rate) for method in methods))
        for exit, column in enumerate(columns):
            if means := [statistics.mean for statistics in column if statistics]:
                best[rate, exit] = _percent(min(means))
    return best


def _row(number: int, method: Method, best: BestValues, exits: int) -> dict[str, Any]:
    """Return what the page shows of a method."""
    return {
        "label": method.label,
        "colour": colour(number),
        "runs": method.runs,
        "compound": method.repetitions[0].compound,
        "unfinished": method.unfinished,
        "seeds": [repetition.runs[0].seed for repetition in method.repetitions],
        "rates": [_rate_cells(method.final(rate), rate, best, exits) for rate in RATES],
        "rounds": _distinct(_rounds(run) for run in method.runs),
        "clients": _distinct(str(run.clients) for run in method.runs),
        "failures": sum(run.failures for run in method.runs),
        **_costs(method),
    }


def _costs(method: Method) -> dict[str, str]:
    """Return a method's costs as text: means over seeds, with units."""
    from matplotlib.ticker import EngFormatter

    updates, seconds = method.client_updates(), method.trained_seconds()
    multiply_adds, sent = method.multiply_adds(), method.bytes()
    prefixed, in_bytes = EngFormatter(places=1), EngFormatter("B", places=1)  # 97.6 M, 97.6 MB
    return {
        "client_updates": f"{updates.mean:.0f}" if updates else NOTHING,
        "trained_hours": f"{seconds.mean / 3600:.2f} h" if seconds else NOTHING,
        "multiply_adds": prefixed(multiply_adds.mean) if multiply_adds else NOTHING,
        "bytes": in_bytes(sent.mean) if sent else NOTHING,
    }


def _rate_cells(
    rates: list[SeedStatistics | None], rate: str, best: BestValues, exits: int
) -> list[dict[str, Any]]:
    """Return a row's cells of one rate: one for each exit of the table, empty or not."""
    cells = []
    for exit, statistics in enumerate([*rates, *[None] * (exits - len(rates))]):
        cell: dict[str, Any] = {"mean": NOTHING}
        if statistics:
            deviation = statistics.deviation
            cell["mean"] = _percent(statistics.mean)
            cell["deviation"] = "" if deviation is None else _percent(deviation)
            cell["best"] = cell["mean"] == best.get((rate, exit))
        cells.append(cell)
    return cells


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _rounds(run: Run) -> str:
    rounds = run.config["rounds"]
    return str(run.last_round) if run.finished else f"{run.last_round} of {rounds}"


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
