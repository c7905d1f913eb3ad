"""What ``ef-asr data`` shows in a terminal."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from efmodel.errors import MAX_NAMED
from efmodel.round_time import RoundTime
from efmodel.speech.overview import Overview
from efmodel.speech.statistics import Census

SPEAKERS = 8  # speakers that are shown one by one
BARS = 12  # most bars of a histogram
BAR = 36  # characters of the longest bar
MUCH = 1.0  # percent of the letters outside the vocabulary that deserve a colour
STEPS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)  # seconds that a bar may cover


def render(overview: Overview, round_time: RoundTime | None) -> RenderableType:
    """Return the screen: what the corpus is, what is in it, and what a run would do with it."""
    train = overview.halves["train"].census
    sections = [
        ("", _corpus(overview)),
        ("", _counts(overview)),
        (_length_title(train), _lengths(train.seconds)),
        ("Who speaks (train)", _speakers(train)),
        ("Letters", _letters(overview)),
        ("Left out", _left_out(overview)),
        ("Converted", _conversions(overview)),
        (_heard_title(overview), _levels(overview)),
        ("Time", _time(round_time)),
    ]
    parts: list[RenderableType] = []
    for title, body in sections:
        if body is not None:
            parts += [Text(title, "bold"), Padding(body, (0, 0, 1, 2))] if title else [body, ""]
    return Group(*parts)


def _grid(*columns: str) -> Table:
    """Return a table without lines; each column is "left" or "right"."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for justify in columns:
        table.add_column(justify="right" if justify == "right" else "left")
    return table


def _corpus(overview: Overview) -> RenderableType:
    table = _grid("left", "left")
    corpus = overview.corpus
    table.add_row(Text("data", "dim"), Text(overview.where, "bold"))
    table.add_row(Text("layout", "dim"), corpus.layout or "a corpus by name")
    languages = ", ".join(corpus.languages[:MAX_NAMED]) or "not said by the data"
    table.add_row(Text("language", "dim"), languages)
    for note in corpus.notes:
        table.add_row(Text("note", "yellow"), Text(note))
    return table


def _counts(overview: Overview) -> RenderableType:
    table = Table("", *overview.halves)
    columns = [half.census.figures() for half in overview.halves.values()]
    for figure in columns[0]:
        table.add_row(figure, *(column[figure] for column in columns))
    return table


def _length_title(train: Census) -> str:
    return f"Lengths in seconds (train, median {median(train.seconds or [0]):.1f})"


def _lengths(seconds: Sequence[float]) -> RenderableType | None:
    """Return a histogram."""
    if not seconds:
        return None
    longest = max(seconds)
    width = next((step for step in STEPS if longest < step * BARS), longest / (BARS - 1))
    bars = Counter(int(length / width) for length in seconds)
    most = max(bars.values())
    table = _grid("right", "left", "right")
    for bar in range(min(bars), max(bars) + 1):
        start, end = f"{bar * width:g}", f"{(bar + 1) * width:g}"
        # Half a character is the shortest bar that is seen.
        halves = max(1, round(2 * BAR * bars[bar] / most)) if bars[bar] else 0
        drawn = "\u2588" * (halves // 2) + ("\u258c" if halves % 2 else "")
        table.add_row(f"{start} to {end}", Text(drawn, "cyan"), str(bars[bar]))
    return table


def _speakers(train: Census) -> RenderableType | None:
    if not train.speakers:
        return None
    table = _grid("left", "right", "right")
    table.add_row(Text("speaker", "dim"), Text("utterances", "dim"), Text("minutes", "dim"))
    names = list(train.speakers)
    for name in names[:SPEAKERS]:
        minutes = f"{train.speakers[name] / 60:.1f}"
        table.add_row(Text(_shortened(name)), str(train.utterances[name]), minutes)
    others = [train.speakers[name] / 60 for name in names[SPEAKERS:]]
    if not others:
        return table
    least, most = min(others), max(others)
    return Group(table, f"and {len(others)} more, with {least:.1f} to {most:.1f} minutes each")


def _shortened(name: str) -> str:
    """Return a name of at most 20 characters; those of Common Voice have 128."""
    return name if len(name) <= 20 else f"{name[:17]}..."


def _letters(overview: Overview) -> RenderableType | None:
    letters = overview.letters()
    if not letters:
        return None
    outside = Counter(overview.outside())
    dropped: Counter[str] = sum(
        (half.census.skipped.characters for half in overview.halves.values()), start=Counter()
    )
    respelt = Counter({letter: n for letter, n in outside.items() if letter not in dropped})
    table = _grid("left", "left")
    inside = " ".join(letter for letter in letters if letter not in outside)
    table.add_row(Text("in the vocabulary", "dim"), Text(inside or "none", "green"))
    if respelt:
        table.add_row(Text("spelt with others", "dim"), Text(_counted(respelt), "yellow"))
    if dropped:
        table.add_row(Text("dropped", "dim"), Text(_counted(dropped), "yellow"))
    if outside:
        share = 100 * outside.total() / sum(letters.values())
        lost = f"{share:.1f} % of the letters are not in the model's vocabulary"
        table.add_row("", Text(lost, "yellow" if share > MUCH else ""))
    return table


def _counted(characters: Counter[str]) -> str:
    listed = "  ".join(f"{_shown(character)} x{n}" for character, n in characters.most_common(30))
    more = len(characters) - 30
    return f"{listed}  and {more} more" if more > 0 else listed


def _shown(character: str) -> str:
    """Return a character or a tag; a combining mark on a circle, so that it stands alone."""
    return f"\u25cc{character}" if unicodedata.category(character[0]) == "Mn" else character


def _left_out(overview: Overview) -> RenderableType | None:
    table = _grid("right", "left", "left")
    for reason, rows in sorted(overview.corpus.left_out.items()):
        table.add_row(str(rows), reason, "")
    for half, found in overview.halves.items():
        skipped = found.census.skipped
        for kind, n in skipped.kinds.most_common():
            table.add_row(str(n), f"{half}: {kind}", "")
    if not table.row_count:
        return None
    return Group(table, *map(Text, _examples(overview)))


def _examples(overview: Overview) -> Iterable[str]:
    """Yield the first rows that are left out, each with another reason."""
    yield from overview.corpus.faults[:MAX_NAMED]
    for half in overview.halves.values():
        first = {reason: name for name, reason in reversed(half.census.skipped.recordings)}
        chosen = sorted(first.items(), key=lambda item: item[1])
        yield from (f"{name}: {reason}" for reason, name in chosen[:MAX_NAMED])


def _conversions(overview: Overview) -> RenderableType | None:
    total: Counter[str] = Counter()
    for half in overview.halves.values():
        total += half.census.conversions
    table = _grid("right", "left")
    for what, n in total.most_common():
        table.add_row(str(n), what)
    return table if total else None


def _heard_title(overview: Overview) -> str:
    heard = sum(half.levels.heard for half in overview.halves.values())
    return f"Sound of {heard} recordings, decoded as a sample"


def _levels(overview: Overview) -> RenderableType | None:
    if not any(half.levels.heard for half in overview.halves.values()):
        return None
    lines: list[RenderableType] = []
    for half, found in overview.halves.items():
        for kind, names in found.levels.faults.items():
            lines.append(Text(f"{half}: {kind} x{len(names)}", "yellow"))
            lines += [Text(f"  {name}") for name in names[:MAX_NAMED]]
    return Group(*lines) if lines else Text("nothing wrong was heard", "green")


def _time(measured: RoundTime | None) -> RenderableType | None:
    if measured is None:
        return None
    took = _duration(measured.seconds)
    where = "on the GPU" if measured.device == "cuda" else "on one core"
    return Group(
        Text(f"A round trains for about {took} on this machine: an estimate.", "bold"),
        Text(
            f"{measured.clients} clients, {measured.parallel} at a time, each with "
            f"{measured.seconds_each:.0f} s of speech, at full depth, with the default settings; a "
            f"training step on {measured.audio:.1f} s took {measured.step:.2f} s {where}. "
            "Shallower clients take less, a busy machine more; the evaluation comes on top."
        ),
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 10 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
