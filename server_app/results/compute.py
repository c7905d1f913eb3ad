"""What a model costs to run, in multiply-adds, counted without running it.

Counted are the products of linear layers, convolutions and attention; not norms, activations, the
spectrogram's Fourier transform, or low-rank additions (a hundredth of the rest), which are merged
into the layers in the end.
"""

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from efmodel.config import HOP, SAMPLE_RATE, EarlyExitConfig
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.mel import log_mel

# A training step in forward passes: the backward pass costs about two (Kaplan et al., "Scaling Laws
# for Neural Language Models", arXiv 2001.08361, section 2.1).
PASSES_A_STEP = 3
UTTERANCE = 10.0  # seconds; attention is quadratic, so a second costs more in longer utterances


def multiply_adds(config: EarlyExitConfig, seconds: float = UTTERANCE) -> list[float]:
    """Return a forward pass's multiply-adds per second of audio, for the model cut at each exit.

    Parameters
    ----------
    config : EarlyExitConfig
        Of the whole model.
    seconds : float
        Length of the utterance, on average over which a second is counted.

    Returns
    -------
    list of float
        E numbers, shallow to deep: front end, layers and heads of the model cut there.
    """
    counts = _forward(config.cut(config.num_exits), seconds)

    def within(module: str) -> int:
        return sum(counts.get(f"{EarlyExitForCTC.__name__}.{module}", {}).values())

    layers = [within(f"encoder.layers.{i}") for i in range(config.num_hidden_layers)]
    heads = [within(f"exits.{e}") for e in range(1, config.num_exits + 1)]
    before = sum(counts["Global"].values()) - sum(layers) - sum(heads)
    return [
        (before + sum(layers[:last]) + sum(heads[:exit])) / 2 / seconds
        for exit, last in enumerate(config.exit_layers, start=1)
    ]


@torch.no_grad()
def _forward(config: EarlyExitConfig, seconds: float) -> dict[str, dict[Any, int]]:
    """Return the operations, two a multiply-add, of one utterance by module and kind."""
    # The filter bank is kept for the process: let it be a real one.
    log_mel(torch.zeros(1, HOP), torch.tensor([HOP]), config.num_mel_bins)
    config.lora_rank = 0
    # Fake tensors have shapes but no memory. The counter does not know all of attention's kernels.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        model = EarlyExitForCTC(config).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, int(seconds * SAMPLE_RATE)))
    counts: dict[str, dict[Any, int]] = counter.get_flop_counts()
    return counts
