"""The number format of a forward pass."""

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context that computes matrix products in ``precision``, float32 or bfloat16.

    Weights, the statistics of norms, logits and losses stay float32.
    """
    kind = "cpu" if device.type == "meta" else device.type  # meta: counting without memory
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
