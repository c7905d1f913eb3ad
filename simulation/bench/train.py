"""A client's part of a round: what a training step costs at each exit, and beside transformers.

Each measurement of memory runs in a process of its own; models that are compared for time take
turns in one process, since what else runs on the machine changes from second to second.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch.optim import AdamW
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from efmodel import EarlyExitForCTC
from efmodel.config import SAMPLE_RATE, EarlyExitConfig, preset
from efmodel.model.waveform import normalise
from efmodel.speech import vocabulary
from simulation.bench.figure import Figure

MODELS = ("tiny", "paper", "wav2vec2-base")
UTTERANCE = 5.0  # seconds of each utterance in a batch
BATCH = 4  # utterances; 24 GiB hold several times as many even of the largest
REPEATS = 5
LABELS = 12  # in each utterance


def batch(utterances: int) -> dict[str, torch.Tensor]:
    """Return random audio and labels."""
    torch.manual_seed(0)
    return {
        "input_values": torch.randn(utterances, int(UTTERANCE * SAMPLE_RATE)),
        "labels": torch.randint(3, 28, (utterances, LABELS)),
    }


def stepper(name: str, exit: int) -> Callable[[], None]:
    """Return a training step of the preset cut at that exit."""
    tokenizer = vocabulary.of_preset(name)
    torch.manual_seed(0)
    config = preset(name, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model = EarlyExitForCTC(config.cut(exit)).train()
    optimizer = AdamW(model.parameters(), fused=True)
    inputs = batch(BATCH)

    def step() -> None:
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()

    return step


def seconds_per_second(name: str) -> list[float]:
    """Return the seconds of a training step per second of audio at each exit."""
    exits = range(1, preset(name).num_exits + 1)
    taken = interleaved([stepper(name, exit) for exit in exits])
    return [seconds / (BATCH * UTTERANCE) for seconds in taken]


def peak(name: str, exit: str) -> list[float]:
    """Return the peak memory in MB of this process, after two training steps."""
    step = stepper(name, int(exit))
    step()
    step()
    return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]


def interleaved(calls: list[Callable[[], object]]) -> list[float]:
    """Return each call's median seconds, in turns, after one of each to warm up."""
    taken: list[list[float]] = [[] for _ in calls]
    for repeat in range(1 + REPEATS):
        for times, call in zip(taken, calls, strict=True):
            began = time.perf_counter()
            call()
            if repeat:
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


def against_transformers() -> list[float]:
    """Return seconds of a forward pass, ours and theirs, the same with backward, the difference.

    wav2vec2-base's sizes cut at exit 1 after two layers, against ``Wav2Vec2ForCTC`` with as many
    layers and the same weights, on the same audio.
    """
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "num_hidden_layers": 2,
        "vocab_size": len(vocabulary.CHARACTERS),
        "pad_token_id": 0,
    }
    reference = Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, layerdrop=0.0, mask_time_prob=0.0)).eval()
    sizes |= {"num_hidden_layers": 4, "exit_layers": [2, 4], "do_stable_layer_norm": False}
    ours = EarlyExitForCTC(EarlyExitConfig(frontend="waveform", **sizes)).cut(1).eval()
    weights = reference.wav2vec2.state_dict()
    weights |= {f"exits.1.projection.{n}": t for n, t in reference.lm_head.state_dict().items()}
    ours.load_state_dict({key: weights[key] for key in ours.state_dict()})
    inputs = batch(BATCH)
    samples, labels = inputs["input_values"], inputs["labels"]
    normed = normalise(samples, torch.full((BATCH,), samples.shape[1]))

    @torch.no_grad()
    def our_forward() -> torch.Tensor:
        return ours(samples).logits[0]

    @torch.no_grad()
    def their_forward() -> torch.Tensor:
        return reference(normed).logits

    def our_step() -> None:
        ours.zero_grad()
        ours(samples, labels=labels).loss.backward()

    def their_step() -> None:
        reference.zero_grad()
        reference(normed, labels=labels).loss.backward()

    difference = (our_forward() - their_forward()).abs().max().item()
    return [*interleaved([our_forward, their_forward, our_step, their_step]), difference]


def run() -> list[Figure]:
    """Measure all."""
    figures = []
    for name in track(MODELS, "train", transient=True):
        seconds = _measured("seconds_per_second", name)
        memory = [_measured("peak", name, str(e + 1))[0] for e in range(len(seconds))]
        whole = f"exit {len(seconds)}"
        for exit, (each, megabytes) in enumerate(zip(seconds, memory, strict=True), start=1):
            what = f"{name}, exit {exit}: training step per second of audio"
            figures.append(Figure(what, each, seconds[-1], "s", whole))
            what = f"{name}, exit {exit}: peak memory of training"
            figures.append(Figure(what, megabytes, memory[-1], "MB", whole))
    forward, their_forward, both, their_both, apart = _measured("against_transformers")
    theirs = "transformers' Wav2Vec2ForCTC"
    what = f"wav2vec2-base, two layers: {{}} (logits at most {apart:.1e} apart)"
    figures.append(Figure(what.format("forward"), forward, their_forward, "s", theirs))
    figures.append(Figure(what.format("and backward"), both, their_both, "s", theirs))
    return figures


def _measured(what: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-m", "simulation.bench.train", what, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    measure: Any = {f.__name__: f for f in (seconds_per_second, peak, against_transformers)}
    print(json.dumps(measure[sys.argv[1]](*sys.argv[2:])))
