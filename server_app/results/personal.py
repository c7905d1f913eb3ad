"""How error rates differ between clients: a mean hides those whom a model serves badly."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Distribution:
    """Error rates over a group of clients; in each pair the global model's, the personal ones'.

    Attributes
    ----------
    group : str
        Such as "capacity 2".
    clients : int
        Its size.
    units : int
        Words or characters of its held-out speech.
    medians, worst : tuple of float
        The median client's rate; the mean rate of the worst tenth of the clients, at least of one.
    better, worse : int
        Clients whose personal model makes fewer errors than the global one, and more.
    """

    group: str
    clients: int
    units: int
    medians: tuple[float, float]
    worst: tuple[float, float]
    better: int
    worse: int

    @classmethod
    def of(cls, group: str, clients: Sequence[Mapping[str, Any]], unit: str) -> "Distribution":
        """Return the distribution over at least one client.

        Parameters
        ----------
        group : str
            The group's name.
        clients : Sequence of Mapping
            Records of ``personal.json``.
        unit : str
            "word" or "character".
        """
        units = [client[f"{unit}s"] for client in clients]
        errors = [client[f"{unit}_errors"] for client in clients]
        before, after = (
            [error / n for error, n in zip(of_model, units, strict=True)]
            for of_model in zip(*errors, strict=True)
        )
        return cls(
            group=group,
            clients=len(clients),
            units=sum(units),
            medians=(statistics.median(before), statistics.median(after)),
            worst=(worst_tenth(before), worst_tenth(after)),
            better=sum(a < b for b, a in errors),
            worse=sum(a > b for b, a in errors),
        )


def worst_tenth(rates: Sequence[float]) -> float:
    """Return the mean of the highest tenth of the rates, at least of one."""
    return statistics.mean(sorted(rates)[-math.ceil(len(rates) / 10) :])


def distributions(clients: Mapping[str, Mapping[str, Any]], unit: str) -> list[Distribution]:
    """Return the distribution over all clients, then over those of each capacity."""
    groups = {"all": list(clients.values())}
    for capacity in sorted({client["capacity"] for client in clients.values()}):
        groups[f"capacity {capacity}"] = [
            client for client in clients.values() if client["capacity"] == capacity
        ]
    return [Distribution.of(name, group, unit) for name, group in groups.items() if group]
