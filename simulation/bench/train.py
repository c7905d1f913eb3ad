"""A client's part of a round: the cost of a training step at each exit, and against transformers.

Memory is measured in a process for each exit. Models whose times are compared take turns in one
process, since the load on the machine changes from second to second.
"""

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
from simulation.bench.process import in_own_process, peak_memory_bytes
from simulation.bench.timing import median_seconds_in_turns

MODELS = ("tiny", "paper", "wav2vec2-base")
UTTERANCE = 5.0  # seconds of each utterance in a batch
BATCH = 4  # utterances; 24 GiB hold several times as many even with the largest model
REPEATS = 5
LABELS = 12  # of each utterance


def batch(utterances: int) -> dict[str, torch.Tensor]:
    """Return random audio ``[utterances, samples]`` and labels ``[utterances, LABELS]``."""
    torch.manual_seed(0)
    return {
        "input_values": torch.randn(utterances, int(UTTERANCE * SAMPLE_RATE)),
        "labels": torch.randint(3, 28, (utterances, LABELS)),
    }


def training_step(name: str, exit: int) -> Callable[[], None]:
    """Return a function that runs one training step of the preset cut at that exit."""
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
    steps = [training_step(name, exit) for exit in range(1, preset(name).num_exits + 1)]
    medians = median_seconds_in_turns(steps, REPEATS, f"train: {name}")
    return [seconds / (BATCH * UTTERANCE) for seconds in medians]


def peak_megabytes(name: str, exit: int) -> float:
    """Return the peak memory in MB of this process, after two training steps."""
    step = training_step(name, exit)
    step()
    step()
    return peak_memory_bytes() / 1e6


def against_transformers() -> list[float]:
    """Return seconds of a forward pass and of a training step, and the difference of the logits.

    A model of wav2vec2-base's sizes cut at exit 1 after two layers runs against ``Wav2Vec2ForCTC``
    with as many layers and the same weights, on the same audio.

    Returns
    -------
    list of float
        Forward pass: ours, theirs. Forward and backward pass: ours, theirs. The largest absolute
        difference between the logits.
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
    normalised = normalise(samples, torch.full((BATCH,), samples.shape[1]))

    @torch.no_grad()
    def our_forward() -> torch.Tensor:
        logits: torch.Tensor = ours(samples).logits[0]
        return logits

    @torch.no_grad()
    def their_forward() -> torch.Tensor:
        logits: torch.Tensor = reference(normalised).logits
        return logits

    def our_step() -> None:
        ours.zero_grad()
        ours(samples, labels=labels).loss.backward()

    def their_step() -> None:
        reference.zero_grad()
        reference(normalised, labels=labels).loss.backward()

    difference = (our_forward() - their_forward()).abs().max().item()
    calls = [our_forward, their_forward, our_step, their_step]
    return [*median_seconds_in_turns(calls, REPEATS, "train: transformers"), difference]


def run() -> list[Figure]:
    """Measure each model's exits, and a model of wav2vec2-base's sizes against transformers."""
    figures = []
    for name in track(MODELS, "train", transient=True):
        seconds = in_own_process(seconds_per_second, name)
        exits = range(1, len(seconds) + 1)
        megabytes = [in_own_process(peak_megabytes, name, exit) for exit in exits]
        deepest = f"exit {len(seconds)}"
        for exit in exits:
            label = f"{name}, exit {exit}"
            what = f"{label}: training step per second of audio"
            figures.append(Figure(what, seconds[exit - 1], seconds[-1], "s", deepest))
            what = f"{label}: peak memory of training"
            figures.append(Figure(what, megabytes[exit - 1], megabytes[-1], "MB", deepest))
    return figures + _compared_with_transformers()


def _compared_with_transformers() -> list[Figure]:
    forward, their_forward, step, their_step, difference = in_own_process(against_transformers)
    reference = "transformers' Wav2Vec2ForCTC"
    what = f"wav2vec2-base, two layers: {{}} (logits at most {difference:.1e} apart)"
    return [
        Figure(what.format("forward"), forward, their_forward, "s", reference),
        Figure(what.format("and backward"), step, their_step, "s", reference),
    ]
