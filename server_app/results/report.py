"""The report of one run, finished or not: a page, and the card of its model."""

import base64
from pathlib import Path
from typing import Any

from efmodel import atomic_file
from server_app.results.card import lacks_card, training_of, write_card
from server_app.results.participation import participations
from server_app.results.personal import distributions
from server_app.results.run import Run, default_config
from server_app.results.templates import RUN_PAGE, STYLE, template
from server_app.run_folder import RunFolder, read_object


def write_report(run: Path) -> Path:
    """Write the ``report.html`` of a run folder, finished or not; return its path.

    A model that was saved gets its card, if it has none.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run.
    ValueError
        If ``config.json`` or ``command.json`` holds no JSON object.
    """
    folder = RunFolder.open(run)
    record = Run.read(run)
    page = template(RUN_PAGE).render(**_contents(record), plot=picture_base64(folder.plot))
    atomic_file.write(folder.report, page.encode())
    if lacks_card(record):  # a model of an earlier version
        write_card(record)
    return folder.report


def _contents(run: Run) -> dict[str, Any]:
    """Return the values that the page shows."""
    rounds, defaults = run.rounds, default_config()
    folder = RunFolder.at(run.path)
    vocabulary = folder.vocabulary
    clients = read_object(folder.personal) if folder.personal.is_file() else {}
    sent = sum(record["bytes-down"] + record["bytes-up"] for record in rounds)
    full = sum(record["bytes-down-full"] + record["bytes-up-full"] for record in rounds)
    seconds = sum(record["train-seconds"] + record["evaluate-seconds"] for record in rounds)
    return {
        "style": STYLE,
        "vocabulary": read_object(vocabulary) if vocabulary.is_file() else None,
        "training": training_of(run),
        "personal": [
            (rate, unit, distributions(clients, unit))
            for rate, unit in (("WER", "word"), ("CER", "character"))
            if clients
        ],
        "name": run.path.name,
        "config": run.config,
        "rounds": rounds,
        "nodes": participations(rounds),
        "megabytes": sent / 1e6,
        "full": full,
        "share": sent / full if full else 0.0,
        "failures": run.failures,
        "minutes": seconds / 60,
        "changed": {k: v for k, v in sorted(run.config.items()) if v != defaults.get(k)},
    }


def picture_base64(path: Path) -> str:
    """Return a picture file in base64, as a page embeds it; empty if there is no such file."""
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
