"""Central evaluation: loss, WER and CER of the model at every exit, on the server's test set."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any

import torch
from flwr.app import ArrayRecord
from flwr.common import log
from transformers import PreTrainedTokenizerBase

from efmodel.evaluation import BATCH_SECONDS, ExitScore, fastest_device, score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.precision import autocast
from efmodel.settings import Settings
from efmodel.speech import corpus, memory, recordings
from efmodel.speech.batches import collate
from efmodel.speech.utterances import SECONDS, Utterance, prepare
from server_app.background import SpareCores
from server_app.strategy.base import RunStrategy


@dataclass
class CentralEvaluation:
    """Scores each round's arrays, on a GPU where there is one.

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
        ``precision`` is used.
    cores : SpareCores
        The cores of a simulation: its clients come first.
    device : torch.device
        Where the model is scored. If a GPU's memory does not suffice, the CPU from then on.
    """

    model: EarlyExitForCTC
    tokenizer: PreTrainedTokenizerBase
    utterances: list[Utterance]
    strategy: RunStrategy
    settings: Settings
    cores: SpareCores = field(default_factory=SpareCores)
    device: torch.device = field(default_factory=fastest_device)

    def __call__(self, arrays: ArrayRecord) -> list[ExitScore]:
        """Return the scores of the exits, shallow to deep; none without a test set."""
        if not self.utterances:
            return []
        self.model.load_state_dict(arrays.to_torch_state_dict())
        if self.device.type == "cpu":
            return self._scores()
        try:
            return self._scores()
        except torch.OutOfMemoryError as error:
            log(WARNING, "central evaluation: goes on without the GPU: %s", error)
            self.device = torch.device("cpu")
            return self._scores()
        finally:
            torch.cuda.empty_cache()  # for simulated clients on the same GPU

    def _scores(self) -> list[ExitScore]:
        self.model.to(self.device)
        scores: list[ExitScore] = []
        with autocast(self.device, self.settings.precision):
            for model in self.strategy.models_to_score(self.model):
                scores += score(
                    model, self.utterances, self.tokenizer, BATCH_SECONDS, self._on_spare_core
                )
        return scores

    def _on_spare_core(self, batch: Iterable[Utterance]) -> dict[str, Any]:
        """Return the model's arguments for a batch, once there is a core for it."""
        if self.cores.number and self.device.type == "cpu":
            torch.set_num_threads(self.cores.wait())
        return collate(batch)


def test_utterances(
    settings: Settings, model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase
) -> list[Utterance]:
    """Return the server's test set: the corpus's test half, or nothing if it has none."""
    if settings.data == "audiofolder" and not settings.data_path:
        log(WARNING, "data-path is empty: no central evaluation, clients test on their own speech")
        return []
    memory.of_process().limit = settings.audio_mb * 1_000_000
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
