"""The multiply-adds of a model, counted from its layers' shapes without running it.

Linear layers, convolutions and attention are counted. Norms, activations, the spectrogram's Fourier
transform and low-rank additions are not: the latter are a hundredth of the rest, and are merged
into the layers in the end.

torch and transformers are imported by the functions: a report of a finished run needs neither.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efmodel.config import EarlyExitConfig

# Attention is quadratic in time, so a second of audio costs more in a longer utterance.
UTTERANCE_SECONDS = 10.0


def multiply_adds(config: "EarlyExitConfig", seconds: float = UTTERANCE_SECONDS) -> list[float]:
    """Return a forward pass's multiply-adds per second of audio, for the model cut at each exit.

    Parameters
    ----------
    config : EarlyExitConfig
        Configuration of the whole model.
    seconds : float
        Length of the utterance over which the count is averaged.

    Returns
    -------
    list of float
        E numbers, shallow to deep: front end, layers and heads of the model cut at that exit.
    """
    operations = _operations_by_module(config.cut(config.num_exits), seconds)

    def total(module: str) -> int:
        return sum(operations.get(f"EarlyExitForCTC.{module}", {}).values())

    layers = [total(f"encoder.layers.{i}") for i in range(config.num_hidden_layers)]
    heads = [total(f"exits.{e}") for e in range(1, config.num_exits + 1)]
    front_end = sum(operations["Global"].values()) - sum(layers) - sum(heads)
    return [
        (front_end + sum(layers[:last_layer]) + sum(heads[:exit])) / 2 / seconds
        for exit, last_layer in enumerate(config.exit_layers, start=1)
    ]


def _operations_by_module(config: "EarlyExitConfig", seconds: float) -> dict[str, dict[Any, int]]:
    """Return the operations of one utterance by module and kind; a multiply-add counts as two."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from efmodel.config import SAMPLE_RATE
    from efmodel.model.early_exit import EarlyExitForCTC

    config.lora_rank = 0
    with torch.device("meta"):  # shapes without memory
        model = EarlyExitForCTC(config).eval().to("meta")
    samples = torch.zeros(1, int(seconds * SAMPLE_RATE), device="meta")
    # The counter knows only the plain attention kernel.
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(samples)
    operations: dict[str, dict[Any, int]] = counter.get_flop_counts()
    return operations
