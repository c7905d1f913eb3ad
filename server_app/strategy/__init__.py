"""Strategies that average each tensor over the clients that hold it.

The path of a reply: ``exchange`` receives it, ``cohort`` finds its sender, ``reply`` validates and
weighs it, ``fold`` clips it, ``running_sums`` adds it, ``partial_mean`` divides, and ``fedavg`` or
an optimizer makes the new tensors.
"""

from server_app.strategy.fedavg import PartialFedAvg
from server_app.strategy.layerwise import PartialFedExP, PartialLamb, PartialLars
from server_app.strategy.optimizers import (
    PartialFedAdagrad,
    PartialFedAdam,
    PartialFedAvgM,
    PartialFedYogi,
)

__all__ = [
    "PartialFedAdagrad",
    "PartialFedAdam",
    "PartialFedAvg",
    "PartialFedAvgM",
    "PartialFedExP",
    "PartialFedYogi",
    "PartialLamb",
    "PartialLars",
]
