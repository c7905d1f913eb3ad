"""Transcripts as text, JSON, subtitles (SubRip, WebVTT) and tables. Nothing here needs torch."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import combining, east_asian_width

from efmodel.decoding.words import Word, text_of
from efmodel.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from efmodel.decoding.recogniser import Result

PAUSE = 0.6  # seconds without a word, at which a segment ends
LONGEST = 7.0  # seconds of a segment
LINE = 42  # columns of a subtitle's line; a Chinese character takes two
LINES = 2
SHORTEST_CUE = 1.0  # seconds for which a subtitle stays at least, if the next one lets it
BALANCE = 0.1  # seconds added to each pause, so that where none is longer the middle is cut


class Segment(NamedTuple):
    """A few words that belong together, at most two lines of a subtitle.

    Attributes
    ----------
    words : Sequence of Word
        At least one.
    """

    words: Sequence[Word]

    @property
    def start(self) -> float:
        """Where its first word starts, in seconds."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Where its last word ends, in seconds."""
        return self.words[-1].end

    @property
    def text(self) -> str:
        """Its words in a row."""
        return plain(text_of(self.words))


class Cue(NamedTuple):
    """A subtitle: when it is shown, in milliseconds, and its lines."""

    start: int
    end: int
    lines: list[list[Word]]


def plain(text: str) -> str:
    """Return a text on one line: whatever is white space becomes one space."""
    return " ".join(text.split())


def segments(words: Sequence[Word]) -> list[Segment]:
    """Return words as segments: cut at pauses, and where they would be too long.

    Parameters
    ----------
    words : Sequence of Word
        In the order of their times.
    """
    found: list[Segment] = []
    first = 0
    for position in range(1, len(words) + 1):
        is_last = position == len(words)
        if is_last or words[position].start - words[position - 1].end > PAUSE:
            found += map(Segment, _short_parts(words[first:position]))
            first = position
    return found


def _short_parts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Yield parts that fit into a segment: cut at long pauses, rather in the middle."""
    waiting = [words]
    while waiting:
        part = waiting.pop()
        if len(part) == 1 or _fits(part):
            yield part
            continue
        cut = max(range(1, len(part)), key=partial(_worth, part))
        waiting += [part[cut:], part[:cut]]


def _worth(words: Sequence[Word], at: int) -> float:
    """Return how good it is to cut before a word: the longer the pause, and the more central."""
    before, after = words[at - 1].end, words[at].start
    return (after - before + BALANCE) * min(before - words[0].start, words[-1].end - after)


def _fits(words: Sequence[Word]) -> bool:
    return words[-1].end - words[0].start <= LONGEST and len(lines_of(words)) <= LINES


def lines_of(words: Sequence[Word]) -> list[list[Word]]:
    """Return words in lines of at most ``LINE`` columns; a longer word has a line of its own.

    Two lines are about equally long.
    """
    if width(text_of(words)) <= LINE or len(words) == 1:
        return [list(words)]
    longer = [
        max(width(text_of(words[:at])), width(text_of(words[at:]))) for at in range(1, len(words))
    ]
    if min(longer) <= LINE:
        at = longer.index(min(longer)) + 1
        return [list(words[:at]), list(words[at:])]
    lines: list[list[Word]] = [[]]
    for word in words:
        if lines[-1] and width(text_of([*lines[-1], word])) > LINE:
            lines.append([])
        lines[-1].append(word)
    return lines


def width(text: str) -> int:
    """Return the columns that a text takes in a terminal or a subtitle."""
    return sum(
        0 if combining(character) else 1 + (east_asian_width(character) in "WF")
        for character in text
    )


def cues(result: "Result") -> list[Cue]:
    """Return a transcript's subtitles: none is empty, none begins before the last one ends."""
    found: list[Cue] = []
    parts = segments(result.words)
    for number, segment in enumerate(parts):
        start = max(round(1000 * segment.start), found[-1].end if found else 0)
        is_last = number + 1 == len(parts)
        limit = round(1000 * (result.seconds if is_last else parts[number + 1].start))
        shown = min(round(1000 * (segment.start + SHORTEST_CUE)), limit)
        end = max(round(1000 * segment.end), shown, start + 1)
        found.append(Cue(start, end, lines_of(segment.words)))
    return found


def txt(result: "Result", name: str, words: bool = False) -> str:
    """Return the text on one line."""
    return f"{plain(result.text)}\n"


def as_json(result: "Result", name: str, words: bool = False) -> str:
    """Return one JSON object on one line; times are in seconds."""
    value: dict[str, Any] = {
        "file": name,
        "text": result.text,
        "seconds": round(result.seconds, 3),
        "exit": result.exit,
        "exits": result.exits,
        "confidence": round(result.confidence, 4),
        "segments": [
            {"start": round(part.start, 3), "end": round(part.end, 3), "text": part.text}
            for part in segments(result.words)
        ],
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": round(word.confidence, 4),
            }
            for word in result.words
        ],
    }
    return json.dumps(value, ensure_ascii=False) + "\n"


def srt(result: "Result", name: str, words: bool = False) -> str:
    """Return SubRip subtitles. The format has no way to escape its arrow, so that is shortened."""
    time = partial(timestamp, comma=True)
    blocks = [
        f"{number}\n{time(cue.start)} --> {time(cue.end)}\n"
        + "\n".join(re.sub("-{2,}>", "->", plain(text_of(line))) for line in cue.lines)
        + "\n"
        for number, cue in enumerate(cues(result), start=1)
    ]
    return "\n".join(blocks)


def vtt(result: "Result", name: str, words: bool = False) -> str:
    """Return WebVTT subtitles; with ``words``, each word has its time."""
    blocks = ["WEBVTT\n"]
    for cue in cues(result):
        lines = _timed_lines(cue) if words else [_escaped(text_of(line)) for line in cue.lines]
        times = f"{timestamp(cue.start)} --> {timestamp(cue.end)}"
        blocks.append("\n".join([times, *lines]) + "\n")
    return "\n".join(blocks)


def _escaped(text: str) -> str:
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _timed_lines(cue: Cue) -> list[str]:
    """Return a cue's lines with the time of each word before it, as far as WebVTT allows.

    Times within a cue must grow, and lie between its start and its end.
    """
    lines, latest = [], cue.start
    for line in cue.lines:
        text = ""
        for word, between in zip(line, gaps(line), strict=True):
            time = round(1000 * word.start)
            text += between
            if latest < time < cue.end:
                text += f"<{timestamp(time)}>"
                latest = time
            text += _escaped(word.text)
        lines.append(text)
    return lines


def gaps(words: Sequence[Word]) -> list[str]:
    """Return what stands before each word in a text: a space, or nothing."""
    found, position = [], 0
    text = text_of(words)
    for word in words:
        at = max(position, text.find(word.text, position))
        found.append(text[position:at])
        position = at + len(word.text)
    return found


def tsv(result: "Result", name: str, words: bool = False) -> str:
    """Return a table of the segments, or of the words with their confidence; times in ms."""
    file = io.StringIO()
    table = csv.writer(file, delimiter="\t", lineterminator="\n")
    if words:
        table.writerow(["start", "end", "text", "confidence"])
        for word in result.words:
            times = round(1000 * word.start), round(1000 * word.end)
            table.writerow([*times, plain(word.text), f"{word.confidence:.4f}"])
    else:
        table.writerow(["start", "end", "text"])
        for part in segments(result.words):
            table.writerow([round(1000 * part.start), round(1000 * part.end), part.text])
    return file.getvalue()


def timestamp(milliseconds: int, comma: bool = False) -> str:
    """Return a time as subtitles write it: ``01:02:03.004``, in SubRip with a comma."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{',' if comma else '.'}{milliseconds:03}"


Writer = Callable[["Result", str, bool], str]  # result, recording's name, words -> file's content

FORMATS: dict[str, Writer] = {"txt": txt, "json": as_json, "srt": srt, "vtt": vtt, "tsv": tsv}
ONE_AFTER_ANOTHER = ("txt", "json")  # several recordings may follow each other in one output


def formats_named(names: str) -> list[str]:
    """Return the formats that a user named, such as "srt,json"; "all" stands for each of them.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    chosen: list[str] = []
    for name in (part.strip().lower() for part in names.split(",")):
        if name != "all" and name not in FORMATS:
            raise UserError(
                f"format: found {name!r}, wanted one of {', '.join(FORMATS)}, all, or several with "
                f"commas between them{did_you_mean(name, FORMATS)}"
            )
        chosen += FORMATS if name == "all" else [name]
    return list(dict.fromkeys(chosen))
