"""The paper's stack of conformer layers against torchaudio's: seconds on the same padded batch.

Two threads, as on the two cores of the smallest machine that trains. Ours and theirs take turns in
one process, so that what else the machine does falls on both.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torchaudio
from rich.progress import track
from torch import Tensor, nn

from efmodel.config import preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.encoder import EarlyExitEncoder
from simulation.bench.figure import Figure

THREADS = 2
FRAMES = (250, 220, 200, 150)  # of 40 ms, of each utterance in the batch
REPEATS = 7

Stack = Callable[[Tensor, Tensor], Tensor]


def ours() -> tuple[nn.Module, Stack]:
    """Return the encoder of the preset, and how to get its last frames."""
    encoder: EarlyExitEncoder = EarlyExitForCTC(preset("paper")).encoder
    return encoder, lambda hidden, lengths: encoder(hidden, lengths)[-1]


def theirs() -> tuple[nn.Module, Stack]:
    """Return a stack of torchaudio's of the same sizes, and how to get its last frames."""
    sizes = preset("paper")
    stack = torchaudio.models.Conformer(
        input_dim=sizes.hidden_size,
        num_heads=sizes.num_attention_heads,
        ffn_dim=sizes.intermediate_size,
        num_layers=sizes.num_hidden_layers,
        depthwise_conv_kernel_size=sizes.conv_depthwise_kernel_size,
        dropout=sizes.hidden_dropout,
    )
    return stack, lambda hidden, lengths: stack(hidden, lengths)[0]


def train(stack: Stack, hidden: Tensor, lengths: Tensor) -> None:
    """Go forward and backward."""
    stack(hidden, lengths).square().mean().backward()


@torch.no_grad()
def infer(stack: Stack, hidden: Tensor, lengths: Tensor) -> None:
    """Go forward."""
    stack(hidden, lengths)


def run() -> list[Figure]:
    """Measure all."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        lengths = torch.tensor(FRAMES)
        hidden = torch.randn(len(FRAMES), max(FRAMES), preset("paper").hidden_size)
        return [
            _figure("12 conformer layers, forward and backward", train, True, hidden, lengths),
            _figure("12 conformer layers, forward", infer, False, hidden, lengths),
        ]
    finally:
        torch.set_num_threads(before)


def _figure(
    what: str,
    step: Callable[[Stack, Tensor, Tensor], None],
    training: bool,
    hidden: Tensor,
    lengths: Tensor,
) -> Figure:
    stacks = (ours(), theirs())
    taken: list[list[float]] = [[], []]
    for _ in track(range(1 + REPEATS), f"conformer: {what}", transient=True):
        for (module, stack), seconds in zip(stacks, taken, strict=True):
            module.train(training).zero_grad()
            began = time.perf_counter()
            step(stack, hidden, lengths)
            seconds.append(time.perf_counter() - began)
    measured, reference = (statistics.median(seconds[1:]) for seconds in taken)
    return Figure(what, measured, reference, "s", "torchaudio's Conformer")
