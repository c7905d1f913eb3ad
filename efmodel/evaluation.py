"""Loss, WER and CER of a model at every exit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import evaluate
import jiwer
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efmodel.decoding.beam import BeamSearch
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.loading import load
from efmodel.speech import corpus, text, vocabulary
from efmodel.speech.ahead import ahead
from efmodel.speech.batches import Inputs, batches, collate
from efmodel.speech.normaliser import Normaliser, in_units
from efmodel.speech.recordings import DataError
from efmodel.speech.utterances import Utterance, prepare

BATCH_SECONDS = 30.0  # of audio; on a CPU larger batches take as long, and have more padding


# The texts of logits [batch, frames, vocab] with lengths [batch], spelt by a tokenizer.
Decode = Callable[[Tensor, Tensor, PreTrainedTokenizerBase], list[str]]


def edits(counts: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int]:
    """Return the number of edits, and of words (or characters) in the references."""
    right_and_wrong = counts.hits + counts.substitutions + counts.deletions
    return counts.substitutions + counts.deletions + counts.insertions, right_and_wrong


class _ErrorRate(evaluate.Metric):  # type: ignore[misc]
    """Edits per reference unit."""

    unit = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _build_data_dir(self) -> str:
        """Make no folder in the user's home: all is kept in memory."""
        return ""

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
    """``compute(predictions, references)`` gives ``wer``, ``errors`` and ``words``.

    In scripts without spaces each character counts as a word.
    """

    unit = "word"

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        errors, words = edits(
            jiwer.process_words([*map(in_units, references)], [*map(in_units, predictions)])
        )
        return {"wer": errors / words, "errors": errors, "words": words}


class CharacterErrorRate(_ErrorRate):
    """``compute(predictions, references)`` gives ``cer``, ``errors`` and ``characters``."""

    unit = "character"

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        errors, characters = edits(jiwer.process_characters(references, predictions))
        return {"cer": errors / characters, "errors": errors, "characters": characters}


@dataclass(frozen=True)
class ExitScore:
    """Mean CTC loss per utterance at one exit, and the edits against the reference texts."""

    loss: float
    word_errors: int
    words: int
    character_errors: int
    characters: int

    @property
    def wer(self) -> float:
        """Word error rate: edits per word, 0.1 for 10 %."""
        return self.word_errors / self.words

    @property
    def cer(self) -> float:
        """Character error rate: edits per character, 0.1 for 10 %."""
        return self.character_errors / self.characters


@torch.no_grad()
def transcribe(
    model: EarlyExitForCTC,
    utterances: Sequence[Utterance],
    tokenizer: PreTrainedTokenizerBase,
    batch_seconds: float,
    inputs: Inputs = collate,
    decode: Decode = text.decode_greedily,
) -> tuple[list[list[str]], list[float], list[Utterance]]:
    """Recognise utterances at every exit.

    Parameters
    ----------
    model, tokenizer
        The recogniser.
    utterances : Sequence[Utterance]
        With reference texts.
    batch_seconds : float
        Seconds of audio in a batch, padding included.
    inputs : callable
        Makes the model's arguments from a batch.
    decode : callable
        Returns the texts of logits ``[batch, frames, vocab]``.

    Returns
    -------
    tuple
        The texts per exit and utterance, the mean CTC loss per exit, and the utterances in the
        order of the texts.
    """
    was_training = model.training
    model.eval()
    texts: list[list[str]] = [[] for _ in range(model.config.num_exits)]
    losses = torch.zeros(model.config.num_exits)
    order: list[Utterance] = []
    for original, batch in ahead(batches(utterances, batch_seconds, seed=0), _decoded):
        output = model(**{k: v.to(model.device) for k, v in inputs(batch).items()})
        losses += output.losses.cpu() * len(batch)
        for at_exit, logits in zip(texts, output.logits, strict=True):
            at_exit += decode(logits, output.lengths, tokenizer)
        order += original  # without samples
    model.train(was_training)
    return texts, (losses / max(1, len(order))).tolist(), order


def fastest_device() -> torch.device:
    """Return a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _decoded(batch: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Return a batch, and the same with its samples in memory."""
    return batch, [utterance.decoded() for utterance in batch]


def score(
    model: EarlyExitForCTC,
    utterances: Sequence[Utterance],
    tokenizer: PreTrainedTokenizerBase,
    batch_seconds: float,
    inputs: Inputs = collate,
    decode: Decode = text.decode_greedily,
) -> list[ExitScore]:
    """Return the score of each exit, shallow to deep; an empty list if there are no utterances."""
    if not utterances:
        return []
    texts, losses, order = transcribe(model, utterances, tokenizer, batch_seconds, inputs, decode)
    references = [utterance.text for utterance in order]
    scores = []
    for spoken, loss in zip(texts, losses, strict=True):
        predictions = [text.normalise(each, tokenizer)[0] for each in spoken]
        in_words = jiwer.process_words([*map(in_units, references)], [*map(in_units, predictions)])
        errors, characters = edits(jiwer.process_characters(references, predictions))
        scores.append(ExitScore(loss, *edits(in_words), errors, characters))
    return scores


def beam_search(search: BeamSearch) -> Decode:
    """Return a search in the place of greedy decoding."""

    def decode(logits: Tensor, lengths: Tensor, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        log_probs = logits.log_softmax(-1).cpu().numpy()
        return [search(x[:n]) for x, n in zip(log_probs, lengths.tolist(), strict=True)]

    return decode


@dataclass(frozen=True)
class Trial:
    """A model, and the speech on which it is evaluated.

    Attributes
    ----------
    model : EarlyExitForCTC
        On a GPU where there is one.
    tokenizer : PreTrainedTokenizerBase
        The model's.
    half : str
        "test", or "all" of a corpus without a test half.
    utterances : list of Utterance
        Those that can be used; at least one.
    """

    model: EarlyExitForCTC
    tokenizer: PreTrainedTokenizerBase
    half: str
    utterances: list[Utterance]

    @classmethod
    def load(
        cls, folder: Path, data: str, exit: int | None = None, normaliser: Normaliser | None = None
    ) -> "Trial":
        """Load a model, and a corpus' test half, or all of it if it has none.

        Parameters
        ----------
        folder : Path
            A saved model, or a run folder.
        data : str
            A folder of recordings, or a corpus by name.
        exit : int, optional
            The exit at which the model is cut; by default it is whole.
        normaliser : Normaliser, optional
            How references and hypotheses are normalised; by default as the model's training texts.

        Raises
        ------
        ModelError
            If the folder holds no model, or the model has no such exit.
        DataError
            If there is no such corpus, or no utterance in it can be used.
        """
        model, tokenizer = load(folder, exit)
        if normaliser is not None:
            tokenizer = vocabulary.with_normaliser(tokenizer, normaliser)
        source = corpus.load(*corpus.named(data))
        half, dataset = ("test", source.test) if source.test is not None else ("all", source.train)
        utterances, skipped = prepare(dataset, tokenizer, model.config, to_train=False)
        skipped.log(half)
        if not utterances:
            raise DataError(f"data: found no readable utterance in {data}")
        return cls(model.to(fastest_device()), tokenizer, half, utterances)

    @property
    def seconds(self) -> float:
        """Duration of the utterances in all."""
        return sum(utterance.seconds for utterance in self.utterances)

    @property
    def texts(self) -> str:
        """How references and hypotheses are normalised, in words."""
        return str(vocabulary.normaliser_of(self.tokenizer))

    def scores(self, lm: Path | None = None, hot_words: Sequence[str] = ()) -> list[ExitScore]:
        """Return the score of each exit, shallow to deep.

        Parameters
        ----------
        lm : Path, optional
            A language model of words, as an ARPA file.
        hot_words : Sequence of str
            Words that are likely.

        Raises
        ------
        UserError
            If the language model cannot be read, or it or a hot word is in other characters.
        """
        decode: Decode = text.decode_greedily
        if lm or hot_words:
            search = BeamSearch.of_tokenizer(self.tokenizer, hot_words, language_model=lm)
            decode = beam_search(search)
        return score(self.model, self.utterances, self.tokenizer, BATCH_SECONDS, decode=decode)
