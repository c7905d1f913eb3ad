"""Parts of a longer recording, as a path with times: ``talk.flac#t=12.5,17.9``.

The form is that of the W3C's Media Fragments URI 1.0 (section 4.2.1). A row of a corpus has one
text for what names its sound, so that a part of a file goes wherever a whole file does.
"""

import math
import os
import re
from typing import NamedTuple

TIMES = re.compile(r"#t=(?P<start>\d+(?:\.\d+)?)(?:,(?P<end>\d+(?:\.\d+)?))?$")


class Segment(NamedTuple):
    """A part of a file.

    Attributes
    ----------
    file : str
        The file's path.
    start, end : float
        Seconds; ``end`` is infinite for the file's end.
    """

    file: str
    start: float = 0.0
    end: float = math.inf

    @property
    def whole(self) -> bool:
        """Whether it is all of the file."""
        return self.start == 0 and self.end == math.inf


WHOLE = Segment("")  # what has no path is never a part


def with_times(file: str, start: float = 0.0, end: float | None = None) -> str:
    """Return the path of a part of a file; ``end`` None stands for the file's end."""
    if start == 0 and end is None:
        return file
    times = _number(start) if end is None else f"{_number(start)},{_number(end)}"
    return f"{file}#t={times}"


def parse(path: str) -> Segment:
    """Return the file and the times of a path that ``with_times`` returned, or the whole file."""
    times = TIMES.search(path)
    if times is None or os.path.exists(path):  # a file may have such a name
        return Segment(path)
    end = float(times["end"]) if times["end"] else math.inf
    return Segment(path[: times.start()], float(times["start"]), end)


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
