"""Who is who in a simulation: which capacity and which utterances partition i of n has."""

import random
from collections.abc import Sequence

import numpy as np

PARTITIONS = "speaker, speaker:N (2 to 1000), iid, or dirichlet:ALPHA (0.001 to 1000)"


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


def kind_and_number(partition: str) -> tuple[str, float]:
    """Return "speaker", "iid" or "dirichlet", and its N or ALPHA (1 where it has none).

    Raises
    ------
    ValueError
        If ``partition`` is none of these, N not a whole number within 2 to 1000, or ALPHA not
        within 0.001 to 1000.
    """
    if partition in ("speaker", "iid"):
        return partition, 1
    kind, _, number = partition.partition(":")
    try:
        if kind == "speaker" and 2 <= int(number) <= 1000:
            return kind, int(number)
        if kind == "dirichlet" and 1e-3 <= float(number) <= 1e3:
            return kind, float(number)
    except ValueError:
        pass
    raise ValueError(f"partition: found {partition!r}, wanted {PARTITIONS}")


def utterances_of(
    partition: str, speakers: Sequence[str], client: int, clients: int, seed: int
) -> list[int]:
    """Return which utterances a simulated client holds; each is on exactly one client.

    Parameters
    ----------
    partition : str
        "speaker" (all of a speaker's on one client), "speaker:N" (a speaker's dealt out evenly
        over N clients: clients of one speaker hold as much), "iid" (dealt out evenly), or
        "dirichlet:ALPHA": each speaker's are spread over the clients in shares drawn from
        Dirichlet(ALPHA), as Hsu et al. (arXiv 1909.06335) do it with classes; small ALPHA keeps
        a speaker on few clients. A client that would get none takes one from the fullest.
    speakers : sequence of str
        Each utterance's speaker.
    client, clients : int
        The client's number, from 0, and how many there are.
    seed : int
        The same for all clients of a run.

    Raises
    ------
    ValueError
        If there are fewer speakers (N times as many for "speaker:N"), or fewer utterances, than
        clients.
    """
    kind, number = kind_and_number(partition)
    if partition == "speaker":
        mine = set(speakers_of(sorted(set(speakers)), client, clients))
        return [index for index, speaker in enumerate(speakers) if speaker in mine]
    if clients > len(speakers):
        raise ValueError(
            f"num-supernodes: found {clients}, wanted at most {len(speakers)}, "
            "the number of training utterances"
        )
    chance = np.random.default_rng(seed)
    if kind == "speaker":
        return sorted(_dealt(speakers, client, clients, int(number), chance))
    if kind == "iid":
        return sorted(chance.permutation(len(speakers))[client::clients].tolist())
    return sorted(_spread(speakers, clients, number, chance)[client])


def _dealt(
    speakers: Sequence[str], client: int, clients: int, each: int, chance: np.random.Generator
) -> list[int]:
    shares: list[np.ndarray] = []
    for speaker in sorted(set(speakers)):
        own = chance.permutation([i for i, name in enumerate(speakers) if name == speaker])
        shares += [own[start::each] for start in range(min(each, len(own)))]
    if clients > len(shares):
        raise ValueError(
            f"num-supernodes: found {clients}, wanted at most {len(shares)}, "
            f"{each} for each training speaker"
        )
    mine = chance.permutation(len(shares))[client::clients]  # which capacity gets which speaker
    return [index for share in mine for index in shares[share].tolist()]


def _spread(
    speakers: Sequence[str], clients: int, alpha: float, chance: np.random.Generator
) -> list[list[int]]:
    by_speaker: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        by_speaker.setdefault(speaker, []).append(index)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for speaker in sorted(by_speaker):
        shares = chance.dirichlet([alpha] * clients)
        own = chance.permutation(by_speaker[speaker])
        cuts = np.round(np.cumsum(shares)[:-1] * len(own)).astype(int)
        for part, indices in zip(parts, np.split(own, cuts), strict=True):
            part.extend(indices.tolist())
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return parts
