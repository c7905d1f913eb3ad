"""An epoch of a client with a frozen front end: with its output cached on disk, and without.

The model is wav2vec2-base cut at exit 1, as a weak device holds it: there the front end costs more
than the layers.
"""

import tempfile
from pathlib import Path

import torch

from client_app.cache.features import FeatureCache, FrozenFeatures
from client_app.training import train
from efmodel.config import SAMPLE_RATE, preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import FRONTEND, parse
from efmodel.settings import Settings
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance
from simulation.bench.figure import Figure
from simulation.bench.timing import median_seconds_in_turns, seconds

UTTERANCES, SECONDS = 8, 5
REPEATS = 3


def run() -> list[Figure]:
    """Measure an epoch over 40 s of noise with a full cache, with an empty one, and without one."""
    torch.manual_seed(0)
    model = EarlyExitForCTC(preset("wav2vec2-base", vocab_size=30, pad_token_id=0).cut(1))
    frozen = parse("frontend", "all", model.config.num_hidden_layers)
    frozen.keep(model)
    noise = torch.randn(UTTERANCES, SECONDS * SAMPLE_RATE)
    speech = [
        Utterance(str(i), InMemory(samples), "abc", [4, 5, 6]) for i, samples in enumerate(noise)
    ]
    settings = Settings(local_epochs=1, speed_perturbation=0.0, batch_seconds=20.0)

    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder) / "weights", 10**9)
        uncached_features = FrozenFeatures(model, FRONTEND, None)
        cached_features = FrozenFeatures(model, FRONTEND, cache)

        def uncached_epoch() -> None:
            train(model, speech, settings, 1, 0, inputs=uncached_features)

        def cached_epoch() -> None:
            train(model, speech, settings, 1, 0, inputs=cached_features)

        uncached_epoch()  # to warm up
        filling = seconds(cached_epoch)
        cached, uncached = median_seconds_in_turns(
            [cached_epoch, uncached_epoch], REPEATS, "frozen: epochs"
        )
    what = "epoch of wav2vec2-base at exit 1, frozen front end"
    return [
        Figure(f"{what}, from the cache", cached, uncached, "s", "no cache"),
        Figure(f"{what}, filling the cache", filling, uncached, "s", "no cache"),
    ]
