"""The paper's stack of conformer layers against torchaudio's: seconds for the same padded batch.

Two threads are used, as on the smallest machine that trains, which has two cores.
"""

from collections.abc import Callable

import torch
import torchaudio
from torch import Tensor, nn

from efmodel.config import preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.encoder import EarlyExitEncoder
from simulation.bench.figure import Figure
from simulation.bench.timing import median_seconds_in_turns

THREADS = 2
FRAMES = (250, 220, 200, 150)  # frames of 40 ms in each utterance of the batch
REPEATS = 7

# Maps hidden states [batch, frames, hidden] and lengths [batch] to the last layer's hidden states.
Stack = Callable[[Tensor, Tensor], Tensor]


def our_stack() -> tuple[nn.Module, Stack]:
    """Return the encoder of the preset ``paper``, and the function that runs it."""
    encoder: EarlyExitEncoder = EarlyExitForCTC(preset("paper")).encoder
    return encoder, lambda hidden, lengths: encoder(hidden, lengths)[-1]


def torchaudio_stack() -> tuple[nn.Module, Stack]:
    """Return torchaudio's stack of the same sizes, and the function that runs it."""
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


def run() -> list[Figure]:
    """Measure training and inference."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return [
            _measure("12 conformer layers, forward and backward", training=True),
            _measure("12 conformer layers, forward", training=False),
        ]
    finally:
        torch.set_num_threads(threads_before)


def _measure(what: str, training: bool) -> Figure:
    lengths = torch.tensor(FRAMES)
    hidden = torch.randn(len(FRAMES), max(FRAMES), preset("paper").hidden_size)

    def pass_through(module: nn.Module, stack: Stack) -> Callable[[], None]:
        module.train(training)

        def call() -> None:
            module.zero_grad()
            with torch.set_grad_enabled(training):
                output = stack(hidden, lengths)
            if training:
                torch.autograd.backward(output.square().mean())

        return call

    calls = [pass_through(*our_stack()), pass_through(*torchaudio_stack())]
    ours, theirs = median_seconds_in_turns(calls, REPEATS, f"conformer: {what}")
    return Figure(what, ours, theirs, "s", "torchaudio's Conformer")
