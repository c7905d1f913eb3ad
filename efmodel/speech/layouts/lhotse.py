"""Manifests of lhotse: cuts, or recordings and supervisions, as JSON lines (``.jsonl.gz``).

A recording's source may be a command or an address on the network. Neither is used: only files.
"""

from pathlib import Path
from typing import Any

from efmodel.speech.layouts.columns import Columns
from efmodel.speech.layouts.halves import by_half
from efmodel.speech.layouts.layout import Fault, Halves, Layout, Row, Rows
from efmodel.speech.layouts.paths import locate
from efmodel.speech.layouts.tables import first_object, objects

TOLERANCE = 0.01  # seconds by which a supervision may end before its recording and be all of it


def halves(folder: Path) -> Halves:
    """Return the cuts of both halves, or the supervisions if there are no cuts."""
    files = [file for form in ("*.jsonl", "*.jsonl.gz") for file in folder.glob(form)]
    cuts = [file for file in files if "supervisions" in first_object(file)]
    return by_half(cuts or [file for file in files if _recordings(file)], folder)


def _recordings(supervisions: Path) -> Path | None:
    """Return the file with the recordings of a file with supervisions, if there is one."""
    recordings = supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))
    found = recordings != supervisions and recordings.is_file()
    return recordings if found and "recording_id" in first_object(supervisions) else None


def rows(manifest: Path, columns: Columns) -> Rows:
    """Yield the supervisions, each with its part of a recording."""
    recordings: dict[Any, Any] = {}
    if file := _recordings(manifest):
        values = (value for _, value in objects(file) if isinstance(value, dict))
        recordings = {value.get("id"): value for value in values}
    for where, value in objects(manifest):
        try:
            if recordings:
                yield _row(where, value, 0.0, recordings[value["recording_id"]], manifest)
                continue
            for supervision in value["supervisions"]:
                yield _row(where, supervision, float(value["start"]), value["recording"], manifest)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            yield Fault(where, f"found no cut of one recording ({error!r}), wanted one")


def _row(
    where: str, supervision: Any, offset: float, recording: Any, manifest: Path
) -> Row | Fault:
    source = recording["sources"][0]
    if source["type"] != "file":
        reason = (
            f"found a source of the type {source['type']!r}, wanted 'file': commands never run, "
            "and nothing is fetched"
        )
        return Fault(where, reason, "a source that is no file")
    start = offset + float(supervision["start"])
    end: float | None = start + float(supervision["duration"])
    if start <= 0 and end is not None and end >= float(recording["duration"]) - TOLERANCE:
        start, end = 0.0, None
    folders = (manifest.parent, manifest.parent.parent, manifest.parent.parent.parent)
    speaker = supervision.get("speaker")
    return Row(
        locate(str(source["source"]), *folders),
        supervision.get("text"),
        None if speaker is None else str(speaker),
        max(0.0, start),
        end,
        language=str(supervision.get("language") or ""),
    )


LAYOUT = Layout("lhotse", "*cuts*.jsonl.gz, or *recordings* and *supervisions*", halves, rows)
