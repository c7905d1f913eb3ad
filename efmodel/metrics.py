"""Word and character error rate as ``evaluate`` metrics over jiwer.

``evaluate.load("wer")`` fetches its code from a hub; these need no network.
"""

from typing import Any

import datasets
import evaluate
import jiwer


class _ErrorRate(evaluate.Metric):  # type: ignore[misc]
    """An edit distance over a number of reference units."""

    unit = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Value("string"),
            "references": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=f"Edits per {self.unit} of the references, and both counts.",
            citation="",
            inputs_description="Lists of predicted and reference texts; no reference is empty.",
            features=datasets.Features(features),
        )


class WordErrorRate(_ErrorRate):
    """``compute(predictions, references)`` gives ``wer``, ``errors`` and ``words``."""

    unit = "word"

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        counts = jiwer.process_words(references, predictions)
        errors = counts.substitutions + counts.deletions + counts.insertions
        words = counts.hits + counts.substitutions + counts.deletions
        return {"wer": errors / words, "errors": errors, "words": words}


class CharacterErrorRate(_ErrorRate):
    """``compute(predictions, references)`` gives ``cer``, ``errors`` and ``characters``."""

    unit = "character"

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        counts = jiwer.process_characters(references, predictions)
        errors = counts.substitutions + counts.deletions + counts.insertions
        characters = counts.hits + counts.substitutions + counts.deletions
        return {"cer": errors / characters, "errors": errors, "characters": characters}
