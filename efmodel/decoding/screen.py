"""What a user sees while recordings are transcribed: texts, progress, errors, and a last line."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from efmodel.decoding.formats import gaps, plain
from efmodel.decoding.stages import Engine, Stages
from efmodel.decoding.words import Word
from efmodel.errors import show
from efmodel.speech.resampling import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from rich.text import Text

    from efmodel.decoding.recogniser import Result

UNSURE, DOUBTFUL = 0.8, 0.5  # words of a lower confidence are yellow, or red


class Screen:
    """Prints texts on stdout and errors on stderr, around a bar that shows how far the work is.

    Use it in a ``with`` block. The bar is there if stderr is a terminal. Where stdout is one too,
    they share it, and what is printed goes above the bar.

    Parameters
    ----------
    recordings : int
        How many there are.
    """

    def __init__(self, recordings: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._on_terminal = sys.stdout.isatty()
        self._errors_on_terminal = sys.stderr.isatty()
        stream = sys.stdout if self._on_terminal else sys.stderr
        self._console = Console(file=stream, highlight=False, emoji=False, soft_wrap=True)
        self._recordings, self._done = recordings, 0
        self._seconds, self._began = 0.0, perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[heard]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # it would take away what is piped into a file
            redirect_stderr=False,
            disable=not self._errors_on_terminal,
        )
        self._task = self._progress.add_task("loading the model", total=None, heard="")

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, seconds: float | None) -> None:
        """Show that the model is loaded, and how much audio there is, if that is known."""
        self._began = perf_counter()
        self._progress.reset(self._task, total=seconds, description=self._count)

    @property
    def _count(self) -> str:
        return f"{self._done}/{self._recordings}" if self._recordings > 1 else ""

    def hear(self, seconds: float) -> None:
        """Show that so many more seconds of audio are on their way through the model."""
        self._seconds += seconds
        speed = self._seconds / max(1e-3, perf_counter() - self._began)
        heard = f"{_minutes(self._seconds)}, {speed:.0f}x real time"
        self._progress.update(self._task, completed=self._seconds, heard=heard)

    def finish_one(self) -> None:
        """Show that one more recording is done."""
        self._done += 1
        self._progress.update(self._task, description=self._count)

    def write(self, text: "str | Text") -> None:
        """Print lines on stdout."""
        if self._on_terminal:
            self._console.print(text, markup=False)
        else:
            print(text, flush=True)

    def fail(self, message: str) -> None:
        """Print an error, in red on a terminal."""
        if self._errors_on_terminal:
            self._console.print(message, style="red", markup=False)
        else:
            show(message)


class Watched:
    """An engine that tells how much audio it is given.

    Parameters
    ----------
    engine : Engine
        Does the work.
    screen : Screen
        Is told of each batch.
    """

    def __init__(self, engine: Engine, screen: Screen) -> None:
        self.num_exits = engine.num_exits
        self.exit_layers = engine.exit_layers
        self.samples_per_frame = engine.samples_per_frame
        self.blank = engine.blank
        self.num_frames = engine.num_frames
        self._engine, self._screen = engine, screen

    def start(self, batch: Sequence[Samples]) -> Stages:
        """Return the stages of a batch."""
        self._screen.hear(sum(map(len, batch)) / SAMPLE_RATE)
        return self._engine.start(batch)


class Lines:
    """Prints lines on stdout of which, on a terminal, the last one may still change.

    Use it in a ``with`` block.

    Parameters
    ----------
    words : bool
        Whether to colour words by confidence on a terminal.
    """

    def __init__(self, words: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        self.on_terminal = sys.stdout.isatty()
        self._words = words
        self._console = Console(highlight=False, emoji=False)
        self._line = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "Lines":
        if self.on_terminal:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def show(self, result: "Result", complete: bool) -> None:
        """Show a line; the next one takes its place unless it is complete."""
        from rich.text import Text

        if not self.on_terminal:
            if complete and result.text:
                print(plain(result.text), flush=True)
            return
        text = coloured(result) if self._words else Text(plain(result.text))
        if complete and result.text:
            self._console.print(text)
        elif not complete:
            text.style = "dim"
        self._line.update(Text("") if complete else text, refresh=True)


def coloured(result: "Result", before: str = "") -> "Text":
    """Return a transcript whose words are coloured by confidence: yellow, or red if it is low."""
    from rich.text import Text

    text = Text(before)
    for word, between in zip(result.words, gaps(result.words), strict=True):
        text.append(between)
        text.append(word.text, style=_style(word))
    return text


def _style(word: Word) -> str:
    if word.confidence < DOUBTFUL:
        return "red"
    return "yellow" if word.confidence < UNSURE else ""


@dataclass
class Tally:
    """Sums over recordings, for the last line; the recordings themselves are not kept.

    Parameters
    ----------
    exit_layers : Sequence of int
        The layer after which each of the model's exits lies.
    """

    exit_layers: Sequence[int]
    recordings: int = 0
    seconds: float = 0.0
    exits: set[int] = field(default_factory=set)  # that were used
    _heard: float = 0.0  # seconds that the model ran on
    _exit_seconds: float = 0.0  # exit times seconds
    _layer_seconds: float = 0.0

    def add(self, result: "Result") -> None:
        """Count a recording. Each of its windows counts as equally long."""
        self.recordings += 1
        self.seconds += result.seconds
        self.exits.update(result.exits)
        for exit in result.exits:
            share = result.seconds / len(result.exits)
            self._heard += share
            self._exit_seconds += share * exit
            self._layer_seconds += share * self.exit_layers[exit - 1]

    def line(self, failed: int, took: float) -> str:
        """Return how much was transcribed, how fast, and how deep.

        Parameters
        ----------
        failed : int
            Recordings that could not be read.
        took : float
            Seconds of work, without loading the model.
        """
        counted = "1 recording" if self.recordings == 1 else f"{self.recordings} recordings"
        parts = [counted, f"{_minutes(self.seconds)} of audio in {took:.1f} s"]
        if self._heard:
            mean = self._exit_seconds / self._heard
            layers = self._layer_seconds / self._heard
            parts.append(f"{self.seconds / took:.3g}x real time")
            parts.append(f"exit {mean:.0f}" if len(self.exits) == 1 else f"mean exit {mean:.1f}")
            parts.append(f"{layers:.3g} of {self.exit_layers[-1]} layers")
        if failed:
            parts.append(f"{failed} failed")
        return ", ".join(parts)


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} minutes"
