"""Listen to a sample of a data set: silence, clipped samples, offsets and low levels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from efmodel.speech import audio
from efmodel.speech.recorded import decode, name_of
from efmodel.speech.utterances import SECONDS, SILENCE

if TYPE_CHECKING:  # datasets takes seconds to import
    from datasets import Dataset

CLIPPED = 0.001  # share of the samples at full scale from which a recording is named
OFFSET = 0.02  # mean of the samples from which a recording is named; 1 is full scale
QUIET = 0.005  # largest sample below which a recording is named: 46 dB below full scale


@dataclass
class Levels:
    """What was heard.

    Attributes
    ----------
    heard : int
        Number of recordings that were decoded.
    faults : dict
        By kind of fault, the name of each recording that has it, and how much.
    """

    heard: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, recording: audio.Recording) -> None:
        """Add a recording."""
        self.heard += 1
        samples = recording.samples
        amplitude = float(samples.max() - samples.min()) / 2
        offset = float(samples.mean())
        if amplitude < SILENCE:
            self._note("silent", name)
        elif recording.peak < QUIET:
            self._note("very quiet", f"{name}: at most {100 * recording.peak:.2f} % of full scale")
        if recording.clipped >= CLIPPED:
            share = 100 * recording.clipped
            self._note("clipped", f"{name}: {share:.1f} % of the samples at full scale")
        if abs(offset) >= OFFSET:
            self._note("offset", f"{name}: the samples' mean is {offset:+.2f}, wanted 0")
        if recording.remark and recording.seconds <= SECONDS[1]:  # else decoding stopped there
            self._note("wrong length in the header", f"{name}: {recording.remark}")

    def _note(self, kind: str, message: str) -> None:
        self.faults.setdefault(kind, []).append(message)


def listen(dataset: "Dataset", most: int) -> Levels:
    """Decode at most ``most`` recordings, spread evenly over a data set."""
    levels = Levels()
    for row in _sample(dataset, most):
        name = name_of(row)
        try:
            levels.add(name, decode(row, name, longest=SECONDS[1]))
        except audio.AudioError:
            continue  # it is counted among those that are left out
    return levels


def _sample(dataset: "Dataset", most: int) -> Sequence[dict[str, Any]]:
    step = max(1, ceil(len(dataset) / max(1, most)))
    chosen: Sequence[dict[str, Any]] = dataset.select(range(step // 2, len(dataset), step)[:most])
    return chosen
