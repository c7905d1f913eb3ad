"""Who is who in a simulation: which capacity and which speakers partition i of n has."""

import random
from collections.abc import Sequence


def capacity_of(capacities: str, partition: int, num_partitions: int, num_exits: int) -> int:
    """Return the capacity (1..``num_exits``) of a simulated client.

    Parameters
    ----------
    capacities : str
        "uniform" (as many clients at each exit), "full" (all at the deepest), or each exit's share
        of the clients, shallow to deep, such as "0.5,0.3,0.2".
    partition, num_partitions : int
        The client's number, from 0, and how many there are.
    num_exits : int
        Exits of the model.

    Raises
    ------
    ValueError
        If ``capacities`` is none of these, or has not one share per exit.
    """
    shares = _shares(capacities, num_exits)
    total = sum(shares)
    # Exit e has the clients whose place among n falls into its part of 0..1.
    bounds = [round(num_partitions * sum(shares[: e + 1]) / total) for e in range(num_exits)]
    order = list(range(num_partitions))
    random.Random(0).shuffle(order)  # neighbours (one accent, one room) get different capacities
    place = order[partition]
    return 1 + sum(place >= bound for bound in bounds[:-1])


def _shares(capacities: str, num_exits: int) -> list[float]:
    if capacities == "full":
        return [0.0] * (num_exits - 1) + [1.0]
    if capacities == "uniform":
        return [1.0] * num_exits
    try:
        shares = [float(share) for share in capacities.split(",")]
    except ValueError:
        shares = []
    if len(shares) != num_exits or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise ValueError(
            f"capacities: found {capacities!r}, wanted 'uniform', 'full' or {num_exits} shares, "
            "one per exit, such as '0.5,0.3,0.2'"
        )
    return shares


def speakers_of(speakers: Sequence[str], partition: int, num_partitions: int) -> list[str]:
    """Return the speakers of a simulated client: each speaker lives on one client.

    Raises
    ------
    ValueError
        If there are fewer speakers than clients.
    """
    if num_partitions > len(speakers):
        raise ValueError(
            f"num-supernodes: found {num_partitions}, wanted at most {len(speakers)}, "
            "the number of training speakers"
        )
    return list(speakers[partition::num_partitions])
