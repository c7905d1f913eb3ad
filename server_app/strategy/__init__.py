"""Strategies that average each tensor over the clients that hold it."""

from collections.abc import Mapping

from flwr.serverapp.strategy import Strategy

from efmodel.settings import Settings, SettingsError
from server_app.strategy.fedavg import PartialFedAvg

__all__ = ["PartialFedAvg", "by_name"]

STRATEGIES = {"partial-fedavg": PartialFedAvg}


def by_name(settings: Settings, owner_exits: Mapping[str, int]) -> Strategy:
    """Return the strategy that the run config names.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    if settings.strategy not in STRATEGIES:
        found = f"strategy: found {settings.strategy!r}"
        raise SettingsError(f"{found}, wanted one of {', '.join(STRATEGIES)}")
    return STRATEGIES[settings.strategy](
        owner_exits=owner_exits,
        coverage=settings.coverage,
        weighting=settings.weighting,
        seed=settings.seed,
        node_timeout=settings.round_timeout,
        fraction_train=settings.fraction_train,
        min_train_nodes=settings.min_train_nodes,
        min_available_nodes=settings.min_nodes,
    )
