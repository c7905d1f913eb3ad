"""Strategies that average each tensor over the clients that hold it."""

from server_app.strategy.fedavg import PartialFedAvg
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
    "PartialFedYogi",
]
