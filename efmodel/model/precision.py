"""The type that a forward pass computes in."""

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products are computed in ``precision``.

    Weights, norms' statistics, logits and losses stay float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
