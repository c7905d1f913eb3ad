"""Loss, WER and CER of a model at every exit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import jiwer
import torch
from transformers import PreTrainedTokenizerBase

from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.speech import text
from efmodel.speech.batches import batches
from efmodel.speech.utterances import Inputs, Utterance, collate


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


@dataclass(frozen=True)
class ExitScore:
    """How one exit did: mean CTC loss per utterance, and edit counts against their references."""

    loss: float
    word_errors: int
    words: int
    character_errors: int
    characters: int

    @property
    def wer(self) -> float:
        """Word error rate, as a share."""
        return self.word_errors / self.words

    @property
    def cer(self) -> float:
        """Character error rate, as a share."""
        return self.character_errors / self.characters


@torch.no_grad()
def transcribe(
    model: EarlyExitForCTC,
    utterances: Sequence[Utterance],
    tokenizer: PreTrainedTokenizerBase,
    batch_seconds: float,
    inputs: Inputs = collate,
) -> tuple[list[list[str]], list[float], list[Utterance]]:
    """Return the words per exit and utterance, the mean loss per exit, the utterances' order."""
    was_training = model.training
    model.eval()
    words: list[list[str]] = [[] for _ in range(model.config.num_exits)]
    losses = torch.zeros(model.config.num_exits)
    order: list[Utterance] = []
    for batch in batches(utterances, batch_seconds, seed=0):
        output = model(**{k: v.to(model.device) for k, v in inputs(batch).items()})
        losses += output.losses.cpu() * len(batch)
        for heard, logits in zip(words, output.logits, strict=True):
            heard += text.decode_greedily(logits, output.lengths, tokenizer)
        order += batch
    model.train(was_training)
    return words, (losses / max(1, len(order))).tolist(), order


def score(
    model: EarlyExitForCTC,
    utterances: Sequence[Utterance],
    tokenizer: PreTrainedTokenizerBase,
    batch_seconds: float,
    inputs: Inputs = collate,
) -> list[ExitScore]:
    """Return each exit's score on the utterances, shallow to deep; none if there are none."""
    if not utterances:
        return []
    words, losses, order = transcribe(model, utterances, tokenizer, batch_seconds, inputs)
    references = [utterance.text for utterance in order]
    scores = []
    for heard, loss in zip(words, losses, strict=True):
        by_word = WordErrorRate().compute(predictions=heard, references=references)
        by_character = CharacterErrorRate().compute(predictions=heard, references=references)
        scores.append(
            ExitScore(
                loss=loss,
                word_errors=by_word["errors"],
                words=by_word["words"],
                character_errors=by_character["errors"],
                characters=by_character["characters"],
            )
        )
    return scores
