"""Estimate how long a simulated round takes on this machine, from one training step."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from datasets import Dataset
from torch.optim import AdamW
from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.settings import Settings
from efmodel.speech.augmentation import Take, draw
from efmodel.speech.batches import batches, collate
from efmodel.speech.utterances import Utterance, prepare

SAMPLE = 4  # batches' worth of recordings that are decoded to make one batch


@dataclass(frozen=True)
class RoundTime:
    """The training time of one round of a run with default settings, all clients at full depth.

    Attributes
    ----------
    step : float
        Seconds that a training step on one core, or on the GPU, took.
    audio : float
        Seconds of speech in its batch; augmentation adds pauses.
    clients : int
        Clients that train in a round.
    seconds_each : float
        Mean seconds of speech of a client.
    parallel : int
        Clients that train at the same time.
    device : str
        "cpu" or "cuda".
    """

    step: float
    audio: float
    clients: int
    seconds_each: float
    parallel: int
    device: str

    @property
    def seconds(self) -> float:
        """Seconds that the training of a round takes."""
        one_client = Settings.local_epochs * self.seconds_each * self.step / self.audio
        return one_client * ceil(self.clients / self.parallel)


def measure(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    config: EarlyExitConfig,
    speakers: Sequence[float],
) -> RoundTime | None:
    """Train a model for two steps on a batch of a data set; return the estimate for a round.

    Parameters
    ----------
    dataset : Dataset
        The training half.
    tokenizer, config : PreTrainedTokenizerBase, EarlyExitConfig
        Of the model; it gets random weights.
    speakers : Sequence[float]
        Seconds of usable speech of each speaker: in a simulation each one is a client.

    Returns
    -------
    RoundTime, optional
        None if no recording of the sample can be used.
    """
    batch = _batch(dataset, tokenizer, config)
    speech = sum(each.seconds for take in batch for each in take.utterances)
    if not speech or not speakers:
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = max(Settings.min_train_nodes, ceil(Settings.fraction_train * len(speakers)))
    clients = min(len(speakers), wanted)
    cores = len(os.sched_getaffinity(0))
    return RoundTime(
        step=_step(config, [take.heard() for take in batch], device),
        audio=speech,
        clients=clients,
        seconds_each=sum(speakers) / len(speakers),
        parallel=1 if device == "cuda" else min(cores, clients),
        device=device,
    )


def _batch(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig
) -> list[Take]:
    """Return a batch, as training hears it, of recordings that are spread over the data set."""
    size = SAMPLE * Settings.batch_utterances
    step = max(1, len(dataset) // size)
    spread = dataset.select(range(0, len(dataset), step)[:size])
    utterances, _ = prepare(spread, tokenizer, config, to_train=True)
    takes = draw(utterances, Settings(), seed=0)
    found = batches(takes, Settings.batch_seconds, 0, Settings.batch_utterances)
    by_length = sorted(found, key=lambda batch: sum(take.seconds for take in batch))
    return by_length[len(by_length) // 2] if by_length else []


def _step(config: EarlyExitConfig, batch: list[Utterance], device: str) -> float:
    """Return the seconds of the second of two training steps: by then all is set up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a simulated client
    try:
        model = EarlyExitForCTC(config).to(device).train()
        optimizer = AdamW(model.parameters(), lr=Settings.lr, fused=True)
        inputs = {name: value.to(device) for name, value in collate(batch).items()}
        seconds = 0.0
        for _ in range(2):
            began = time.perf_counter()
            optimizer.zero_grad()
            model(**inputs).loss.backward()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
        return seconds
    finally:
        torch.set_num_threads(threads)
