"""An epoch of a client with a frozen front end: its output read from disk, or computed again.

wav2vec2-base cut at exit 1, as a weak device holds it: its front end costs more than its layers.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.progress import track

from client_app.cache.features import FeatureCache, FrozenFeatures
from client_app.training import train
from efmodel.config import SAMPLE_RATE, preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import FRONTEND, parse
from efmodel.settings import Settings
from efmodel.speech.utterances import Utterance
from simulation.bench.figure import Figure

UTTERANCES, SECONDS = 8, 5
REPEATS = 3


def run() -> list[Figure]:
    """Measure one epoch over 40 s of noise either way, and once with the cache still empty."""
    torch.manual_seed(0)
    model = EarlyExitForCTC(preset("wav2vec2-base", vocab_size=30, pad_token_id=0).cut(1))
    frozen = parse("frontend", "all", model.config.num_hidden_layers)
    frozen.keep(model)
    noise = torch.randn(UTTERANCES, SECONDS * SAMPLE_RATE)
    speech = [Utterance(str(i), samples, "abc", [4, 5, 6]) for i, samples in enumerate(noise)]
    settings = Settings(local_epochs=1, speed_perturbation=0.0, batch_seconds=20.0)

    def epoch(features: FrozenFeatures) -> float:
        began = time.perf_counter()
        train(model, speech, settings, 1, 0, inputs=features)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        without = FrozenFeatures(model, FRONTEND, None)
        cached = FrozenFeatures(model, FRONTEND, FeatureCache(Path(folder) / "weights", 10**9))
        epoch(without)
        first = epoch(cached)
        pairs = [
            (epoch(cached), epoch(without))
            for _ in track(range(REPEATS), "frozen: epochs", transient=True)
        ]
    again, anew = (statistics.median(each) for each in zip(*pairs, strict=True))
    what = "epoch of wav2vec2-base at exit 1, frozen front end"
    return [
        Figure(f"{what}, from the cache", again, anew, "s", "no cache"),
        Figure(f"{what}, filling the cache", first, anew, "s", "no cache"),
    ]
