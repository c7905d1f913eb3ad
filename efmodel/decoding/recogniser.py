"""The recogniser: from recordings of any length to words, as deep as each window needs.

    recogniser = Recogniser.from_pretrained("my-run", exit="auto")
    print(recogniser.transcribe("hello.wav").text)

torch is imported only where a model of torch is loaded, not for one of ``ef-asr export``:
:mod:`efmodel.decoding.stages` says what an engine must be.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np

from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.decoder import Beam, Decoder, Greedy
from efmodel.decoding.loaded import load
from efmodel.decoding.long_form import Window, windows
from efmodel.decoding.policy import ExitPolicy, parse
from efmodel.decoding.stages import Engine, run, stage_costs
from efmodel.decoding.words import Tokens, Word, text_of, words
from efmodel.errors import UserError
from efmodel.speech.resampling import SAMPLE_RATE, Samples
from efmodel.speech.sound import AudioError

BATCH_SECONDS = 30.0  # of audio; on a CPU larger batches take as long, and have more padding
BATCHES_AHEAD = 8  # batches that are read before the first is run, to put like lengths together

Audio = str | Path | bytes | IO[bytes] | Samples  # or a tensor: [samples] at 16 kHz


@dataclass(frozen=True)
class Result:
    """What was said in a recording.

    Attributes
    ----------
    text : str
        Its words in a row.
    words : list of Word
        With times and confidences.
    exits : list of int
        The exit at which each window of the recording stopped; none if it is too short.
    seconds : float
        Duration of the recording.
    work : float
        Seconds that recognising it took: its share of the batches in which it was.
    """

    text: str
    words: list[Word]
    exits: list[int]
    seconds: float
    work: float

    @property
    def exit(self) -> int:
        """The deepest exit that was used; 0 for a recording that is too short to hold a word."""
        return max(self.exits, default=0)

    @property
    def confidence(self) -> float:
        """Mean confidence of the words; 1 if there are none."""
        return float(np.mean([word.confidence for word in self.words])) if self.words else 1.0


@dataclass
class _Recording:
    """A recording whose windows are being recognised."""

    source: Audio
    seconds: float = 0.0
    work: float = 0.0
    left: int = 0  # windows that are not yet recognised
    complete: bool = False  # all windows are known
    error: AudioError | None = None
    parts: dict[int, tuple[int, Any]] = field(default_factory=dict)  # exit, and what is kept


@dataclass(frozen=True)
class _Part:
    """A window of a recording, waiting for its batch."""

    recording: _Recording
    number: int
    window: Window


class Recogniser:
    """Turns speech into words.

    Parameters
    ----------
    engine : Engine
        The model, cut at the deepest exit to use.
    tokens : Tokens
        What its labels stand for.
    policy : ExitPolicy, optional
        When to stop before the deepest exit; by default never.
    search : BeamSearch, optional
        A search with a language model or hot words, in place of each frame's most probable label.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        policy: ExitPolicy | None = None,
        search: BeamSearch | None = None,
    ) -> None:
        self.engine = engine
        self.tokens = tokens
        self.policy = policy or ExitPolicy()
        self._decoder: Decoder[Any] = (
            Greedy(engine.blank) if search is None else Beam(search, engine.blank)
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        exit: int | str | None = None,
        device: str = "cpu",
        policy: str = "",
        deadline: float = float("inf"),
        lm: str | Path | None = None,
        hot_words: Sequence[str] = (),
    ) -> "Recogniser":
        """Load a model for recognition.

        Parameters
        ----------
        model : str or Path
            A run folder, the folder of a saved model, of an exported one or of a CTC checkpoint of
            transformers, or a name on the Hub. An exported one needs no torch.
        exit : int, "auto" or None
            The exit (from 1) at which every recording stops, or "auto" for as deep as each needs.
            By default the deepest one.
        device : str
            As torch names it; an exported model runs on the "cpu".
        policy : str
            With "auto": the scores that decide, such as "confidence" or "confidence+agreement". By
            default the one that ``ef-asr calibrate`` found to save the most.
        deadline : float
            Seconds that a recording (or a window of 30 s of a long one) may take: the exit that is
            reached by then counts.
        lm : str or Path, optional
            A language model of words, as an ARPA file.
        hot_words : Sequence of str
            Words, or several words in a row, that are likely.

        Raises
        ------
        ModelError
            If there is no such model, or it has no such exit.
        UserError
            If "auto" is asked of a model that was not calibrated, and there is no deadline.
        """
        automatic = exit == "auto"
        loaded = load(model, None if automatic else exit_number(exit), device)
        chosen: Mapping[str, Sequence[float]] = {}
        if automatic and (loaded.thresholds or policy or deadline == float("inf")):
            chosen = parse(policy or loaded.policy, loaded.thresholds)
        costs = stage_costs(loaded.engine) if deadline < float("inf") else ()
        search = loaded.search(hot_words, lm) if lm or hot_words else None
        return cls(loaded.engine, loaded.tokens, ExitPolicy(chosen, deadline, costs), search)

    def transcribe(self, audio: Audio) -> Result:
        """Return what is said in one recording.

        Parameters
        ----------
        audio : str, Path, bytes, file, or array
            A path (``talk.flac``, or a part of it: ``talk.flac#t=10,25``), a file's content, an
            open file, or samples ``[samples]`` at 16 kHz.

        Raises
        ------
        AudioError
            If it cannot be read.
        """
        [(_, result)] = self.transcribe_all([audio])
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_all(
        self, recordings: Iterable[Audio], batch_seconds: float = BATCH_SECONDS
    ) -> Iterator[tuple[Audio, Result | AudioError]]:
        """Yield each recording with what is said in it, in order, or with the error.

        Windows of several recordings are run together. Whatever goes wrong with one recording, the
        others are transcribed.

        Parameters
        ----------
        recordings : Iterable
            As for ``transcribe``. They are read as they are needed.
        batch_seconds : float
            Seconds of audio in a batch, padding included.
        """
        waiting: list[_Recording] = []
        parts: list[_Part] = []
        seconds = 0.0  # of these
        for recording, part in self._parts(recordings):
            if not waiting or waiting[-1] is not recording:
                waiting.append(recording)
            if part is not None:
                parts.append(part)
                seconds += _seconds(part)
            if seconds >= BATCHES_AHEAD * batch_seconds:
                self._run_all(parts, batch_seconds)
                parts, seconds = [], 0.0
                yield from self._finished(waiting)
        self._run_all(parts, batch_seconds)
        yield from self._finished(waiting)

    def _parts(self, recordings: Iterable[Audio]) -> Iterator[tuple[_Recording, _Part | None]]:
        """Yield the windows of all recordings, and each recording without one at its end."""
        for source in recordings:
            recording = _Recording(source)
            try:
                for number, window in enumerate(windows(chunks(source))):
                    if len(window.samples) and self.engine.num_frames(len(window.samples)):
                        recording.left += 1
                        yield recording, _Part(recording, number, window)
                    recording.seconds += (window.end - window.first) / SAMPLE_RATE
            except AudioError as error:
                recording.error = error
            except Exception as error:  # one bad recording is one error
                recording.error = failed(source, error)
            recording.complete = True
            yield recording, None

    def _run_all(self, parts: list[_Part], batch_seconds: float) -> None:
        """Recognise windows, those of like lengths together."""
        batch: list[_Part] = []
        for part in sorted(parts, key=_seconds):
            if batch and (len(batch) + 1) * _seconds(part) > batch_seconds:
                self._run(batch)
                batch = []
            batch.append(part)
        if batch:
            self._run(batch)

    def _run(self, batch: Sequence[_Part]) -> None:
        """Recognise windows together; if that fails, each by itself: one of them is to blame."""
        began = perf_counter()
        try:
            heard = run(self.engine, [part.window.samples for part in batch], self.policy)
        except Exception as error:
            for part in batch:
                if len(batch) > 1:
                    self._run([part])
                else:
                    part.recording.left -= 1
                    part.recording.error = failed(part.recording.source, error)
            return
        took, seconds = perf_counter() - began, sum(map(_seconds, batch))
        for part, (exit, output) in zip(batch, heard, strict=True):
            first, end = part.window.frames(self.engine.samples_per_frame)
            kept = self._decoder.keep(output, first, end)
            part.recording.parts[part.number] = exit, kept
            part.recording.left -= 1
            part.recording.work += took * _seconds(part) / seconds

    def _finished(self, waiting: list[_Recording]) -> Iterator[tuple[Audio, Result | AudioError]]:
        """Yield the recordings at the front that are done, and take them from the list."""
        while waiting and waiting[0].complete and not waiting[0].left:
            recording = waiting.pop(0)
            yield recording.source, recording.error or self._result(recording)

    def _result(self, recording: _Recording) -> Result:
        ordered = [part for _, part in sorted(recording.parts.items())]
        labels = self._decoder.labels([kept for _, kept in ordered])
        frame_seconds = self.engine.samples_per_frame / SAMPLE_RATE
        spelt = words(labels, self.tokens, frame_seconds, recording.seconds)
        exits = [exit for exit, _ in ordered]
        return Result(text_of(spelt), spelt, exits, recording.seconds, recording.work)


def exit_number(exit: int | str | None) -> int | None:
    """Return the exit that a user gave as a number.

    Raises
    ------
    UserError
        If it is none.
    """
    try:
        return None if exit is None else int(exit)
    except ValueError:
        raise UserError(f"exit: found {exit!r}, wanted a number from 1, or auto") from None


def chunks(audio: Audio) -> Iterator[Samples]:
    """Yield the samples ``[samples]`` of a recording at 16 kHz, in pieces.

    Raises
    ------
    AudioError
        If it cannot be read.
    """
    if isinstance(audio, str | os.PathLike | bytes) or hasattr(audio, "read"):
        from efmodel.speech.stream import stream

        source: Any = audio.read() if hasattr(audio, "read") else audio
        yield from stream(source, name_of(audio))
        return
    samples = np.asarray(audio)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"samples: found {samples.dtype} {list(samples.shape)}, wanted floating-point numbers "
            "[samples] at 16 kHz"
        )
    if not np.isfinite(samples).all():
        raise AudioError("samples: found infinite or undefined samples, wanted finite numbers")
    yield samples.astype(np.float32, copy=False)


def name_of(audio: Audio) -> str:
    """Return what to call a recording in messages."""
    if isinstance(audio, str | os.PathLike):
        return os.fspath(audio)
    return str(getattr(audio, "name", "audio"))


def failed(audio: Audio, error: Exception) -> AudioError:
    """Return what to say of a recording that could not be transcribed for any other reason."""
    reason = str(error) or type(error).__name__
    return AudioError(f"{name_of(audio)}: could not be transcribed ({reason})")


def _seconds(part: _Part) -> float:
    return len(part.window.samples) / SAMPLE_RATE
