"""The error rates of a saved model on a corpus."""

from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging

from efmodel.evaluation import ExitScore, score
from efmodel.model import loading
from efmodel.settings import Settings
from efmodel.speech import corpus
from efmodel.speech.recordings import DataError
from efmodel.speech.utterances import prepare


@dataclass(frozen=True)
class CorpusScore:
    """The score of each exit, shallow to deep, and the data that they were measured on.

    Attributes
    ----------
    half : str
        "test", or "all" of a corpus without a test half.
    utterances : int
        Utterances in it that can be used.
    seconds : float
        Their length in all.
    exits : list of ExitScore
        One per exit.
    """

    half: str
    utterances: int
    seconds: float
    exits: list[ExitScore]


def score_corpus(folder: Path, data: str, exit: int | None = None) -> CorpusScore:
    """Evaluate a model on a corpus' test half, or on all of it if it has none.

    Parameters
    ----------
    folder : Path
        A saved model, or a run folder.
    data : str
        A folder of recordings, or a corpus by name.
    exit : int, optional
        The exit at which the model is cut; by default all exits are evaluated.

    Raises
    ------
    ModelError
        If the folder holds no model, or the model has no such exit.
    DataError
        If there is no such corpus, or no utterance in it can be used.
    """
    logging.disable_progress_bar()
    model, tokenizer = loading.load(folder, exit)
    source = corpus.load(*corpus.named(data))
    half, dataset = ("test", source.test) if source.test is not None else ("all", source.train)
    utterances, skipped = prepare(dataset, tokenizer, model.config, to_train=False)
    skipped.log(half)
    if not utterances:
        raise DataError(f"data: found no readable utterance in {data}")
    seconds = sum(utterance.seconds for utterance in utterances)
    exits = score(model, utterances, tokenizer, Settings.batch_seconds)
    return CorpusScore(half, len(utterances), seconds, exits)
