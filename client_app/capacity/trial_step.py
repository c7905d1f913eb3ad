"""Measure a training step on noise, as long as the longest batch that this node may meet.

``python -m client_app.capacity.trial_step`` reads its job from standard input as JSON, and prints
each result at once as a line of JSON, so that a killed process has still reported something.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord

from client_app.cache.features import FrozenFeatures
from client_app.capacity.memory import is_out_of_memory
from client_app.training import train, with_frozen
from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import NOTHING, parse
from efmodel.settings import Settings
from efmodel.speech.augmentation import longest
from efmodel.speech.batches import collate
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance

LABELS_PER_SECOND = 15  # characters of fast English speech


def longest_batch(settings: Settings, config: EarlyExitConfig) -> list[Utterance]:
    """Return a batch of noise: ``batch-seconds`` or more in takes as long as they can become."""
    seconds = longest(settings)
    utterances = min(math.ceil(settings.batch_seconds / seconds), settings.batch_utterances)
    samples = int(seconds * SAMPLE_RATE)
    # CTC needs a blank between equal labels: texts of half as many labels as frames always fit.
    count = min(int(LABELS_PER_SECOND * seconds), config.num_frames(samples) // 2)
    spoken = [label for label in range(config.vocab_size) if label != config.pad_token_id]
    labels = [spoken[i % len(spoken)] for i in range(count)]
    torch.manual_seed(0)
    return [
        Utterance(str(i), InMemory(torch.randn(samples)), "", labels) for i in range(utterances)
    ]


def step(config: EarlyExitConfig, settings: Settings, exit: int) -> float:
    """Train the model cut at ``exit`` for two steps; return the second step's time.

    The time is in seconds per second of audio. By the second step the optimizer has its state and
    all work that is done once is done. Two copies of the tensors are in memory, as those of a
    message and of its reply.
    """
    model = EarlyExitForCTC(config.cut(exit))
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    message = ArrayRecord(model.state_dict())
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    frozen = parse(settings.freeze, settings.train, config.num_hidden_layers)
    frozen.keep(model)
    settings = with_frozen(settings, frozen)
    inputs = collate if frozen.depth == NOTHING else FrozenFeatures(model, frozen.depth, None)
    utterances = longest_batch(settings, config)
    began = 0.0

    def timed(batch: Iterable[Utterance]) -> dict[str, Any]:
        nonlocal began
        began = time.perf_counter()
        return inputs(batch)

    # The utterances are as long already as the longest takes.
    two_steps = replace(settings, local_epochs=2, speed_perturbation=0.0, augment="off")
    train(model, utterances, two_steps, 1, 0, inputs=timed)
    seconds = time.perf_counter() - began
    reply = ArrayRecord(model.state_dict())
    assert len(reply) == len(message)
    return seconds / sum(utterance.seconds for utterance in utterances)


def peak_mb() -> float:
    """Return this process's highest memory in MB.

    VmHWM counts this process alone; ``ru_maxrss`` begins at that of the process that started it.
    An integrated GPU (Jetson) uses the same memory, which no process's count includes.
    """
    shared = 0
    if torch.cuda.is_available() and torch.cuda.get_device_properties(0).is_integrated:
        shared = torch.cuda.max_memory_reserved()
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return (int(line.split()[1]) * 1024 + shared) / 1e6
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + shared) / 1e6


def main() -> None:
    """Run the job on standard input, and print its results."""
    with suppress(OSError):  # if memory runs out, the system ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    job = json.load(sys.stdin)
    config = EarlyExitConfig.from_dict(json.loads(job["config"]))
    try:
        result: dict[str, float | str] = {
            "seconds": step(config, Settings(**job["settings"]), job["exit"])
        }
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        result = {"obstacle": f"out of memory: {error}".splitlines()[0][:200]}
    print(json.dumps({**result, "peak_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
