"""Why a run failed, or some of its rounds: the one line to show of a long log."""

import re

from server_app.run_folder import FAILED, RunFolder, failures, read_metrics

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The last line of a traceback, also one of Ray's, which starts with the process's name.
_EXCEPTION = re.compile(r"^(?:\(.*?\) )?((?:\w+\.)*(?:[A-Z]\w*)?(?:Error|Exception)(?::.*)?)$")


# Between the tracebacks of exceptions of which one led to the next.
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


def cause(printed: str) -> str:
    """Return the cause of a failure in what a run printed; empty if nothing tells it.

    The server app logs its own. Before it has started, the best guess is the first exception of the
    last chain: those that it led to say only that the simulation ended.
    """
    lines = [_COLOURS.sub("", line).strip() for line in printed.splitlines()]
    logged = [line.partition(FAILED)[2] for line in lines if FAILED in line]
    if logged:
        return logged[-1]
    first, chained = "", False
    for line in lines:
        if line.startswith(_CHAINED):
            chained = True
        elif match := _EXCEPTION.match(line):
            first, chained = (first if chained else match[1]), False
    return first


def lost_rounds(folder: RunFolder) -> str:
    """Return which rounds trained nothing and why the last of them did not; empty if none."""
    lost = [record for record in read_metrics(folder.metrics) if not record["answered"]]
    if not lost:
        return ""
    numbers = ", ".join(str(record["round"]) for record in lost)
    rounds = "rounds" if len(lost) > 1 else "round"
    return f"{rounds} {numbers} trained nothing: {failures(lost[-1])}"
