"""Central evaluation: loss, WER and CER of the model at every exit, on the server's test set."""

from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ArrayRecord
from flwr.common import log
from transformers import PreTrainedTokenizerBase

from efmodel.evaluation import ExitScore, score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.precision import autocast
from efmodel.settings import Settings
from efmodel.speech import corpus, recordings
from efmodel.speech.utterances import SECONDS, Utterance, prepare
from server_app.strategy.base import RunStrategy


@dataclass
class CentralEvaluation:
    """Scores each round's arrays.

    Parameters
    ----------
    model : EarlyExitForCTC
        The whole model; each call loads the arrays into it.
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    utterances : list of Utterance
        The test set; empty for no evaluation.
    strategy : RunStrategy
        Chooses the models to score.
    settings : Settings
        ``precision`` and ``batch_seconds`` are used.
    """

    model: EarlyExitForCTC
    tokenizer: PreTrainedTokenizerBase
    utterances: list[Utterance]
    strategy: RunStrategy
    settings: Settings

    def __call__(self, arrays: ArrayRecord) -> list[ExitScore]:
        """Return the scores of the exits, shallow to deep; none without a test set."""
        self.model.load_state_dict(arrays.to_torch_state_dict())
        scores: list[ExitScore] = []
        with autocast(self.model.device, self.settings.precision):
            for model in self.strategy.models_to_score(self.model):
                seconds = self.settings.batch_seconds
                scores += score(model, self.utterances, self.tokenizer, seconds)
        return scores


def test_utterances(
    settings: Settings, model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase
) -> list[Utterance]:
    """Return the server's test set: the corpus's test half, or nothing if it has none."""
    if settings.data == "audiofolder" and not settings.data_path:
        log(WARNING, "data-path is empty: no central evaluation, clients test on their own speech")
        return []
    limits = recordings.Limits.of(settings)
    test = corpus.load(settings.data, settings.data_path, limits).test
    if test is None:
        log(WARNING, "the data has no test half: no central evaluation")
        return []
    seconds = (SECONDS[0], settings.max_seconds)
    utterances, skipped = prepare(test, tokenizer, model.config, to_train=False, seconds=seconds)
    skipped.log("test")
    log(INFO, "central evaluation on %d utterances", len(utterances))
    return utterances
