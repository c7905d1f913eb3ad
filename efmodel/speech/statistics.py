"""What half a corpus holds, and what of it would be left out and why, without decoding audio."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.speech.utterances import NAMED, SECONDS, Skipped, examine


@dataclass
class Census:
    """The usable utterances' seconds, by utterance and by speaker, and their words."""

    seconds: list[float] = field(default_factory=list)
    speakers: dict[str, float] = field(default_factory=dict)
    words: Counter[str] = field(default_factory=Counter)
    skipped: Skipped = field(default_factory=Skipped)

    def figures(self) -> dict[str, str]:
        """Return what was counted, by its name."""
        seconds = self.seconds or [0.0]
        spans = [min(seconds), median(seconds), max(seconds)]
        return {
            "speakers": str(len(self.speakers)),
            "utterances": str(len(self.seconds)),
            "hours": f"{sum(seconds) / 3600:.2f}",
            "shortest, median, longest s": ", ".join(f"{span:.1f}" for span in spans),
            "median minutes a speaker": f"{median(self.speakers.values() or [0.0]) / 60:.1f}",
            "words": str(sum(self.words.values())),
            "different words": str(len(self.words)),
            "characters": str(sum(len(word) * n for word, n in self.words.items())),
            "skipped": str(len(self.skipped.recordings)),
        }

    def remarks(self) -> list[str]:
        """Say what would be skipped, the first by name, and which characters are dropped."""
        lines = []
        if self.skipped.recordings:
            lines.append(f"{len(self.skipped.recordings)} skipped: {self.skipped.by_kind()}")
        lines += [f"  {name}: {reason}" for name, reason in self.skipped.recordings[:NAMED]]
        if self.skipped.characters:
            lines.append(f"characters dropped: {self.skipped.dropped()}")
        return lines


def take(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig, to_train: bool
) -> Census:
    """Count a data set as training (or testing) with that tokenizer and model would find it."""
    census = Census()
    for each in dataset:
        row = examine(each, tokenizer, config, to_train, SECONDS, census.skipped)
        if row is not None:
            census.seconds.append(row.seconds)
            speaker = each["speaker"]
            census.speakers[speaker] = census.speakers.get(speaker, 0.0) + row.seconds
            census.words.update(row.text.split())
    return census
