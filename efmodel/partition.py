"""Simulated clients: the capacity and the utterances of partition i of n."""

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
        If ``capacities`` has another form, or its number of shares is not that of the exits.
    """
    shares = _shares(capacities, num_exits)
    total = sum(shares)
    # The first shares[0] / total of the places get exit 1, the next part exit 2, and so on.
    bounds = [round(num_partitions * sum(shares[: e + 1]) / total) for e in range(num_exits)]
    order = list(range(num_partitions))
    random.Random(0).shuffle(order)  # similar speakers, often neighbours, get different capacities
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
    """Return the speakers of a simulated client; each speaker is on one client.

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
        If ``partition`` has another form, N is not a whole number from 2 to 1000, or ALPHA is not
        a number from 0.001 to 1000.
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
    """Return the indices of a simulated client's utterances; each is on exactly one client.

    Parameters
    ----------
    partition : str
        "speaker": all utterances of a speaker are on one client. "speaker:N": a speaker's
        utterances are split evenly over N clients, each with one speaker. "iid": all utterances
        are split evenly at random. "dirichlet:ALPHA": each speaker's utterances are split over the
        clients in shares drawn from Dirichlet(ALPHA), as Hsu et al. (arXiv 1909.06335) do with
        classes; a small ALPHA keeps a speaker on few clients, and a client without any utterance
        takes one from the client with the most.
    speakers : sequence of str
        The speaker of each utterance.
    client, clients : int
        The client's number, from 0, and how many there are.
    seed : int
        The run's seed, the same for all its clients.

    Raises
    ------
    ValueError
        If there are fewer speakers (N times as many for "speaker:N"), or fewer utterances, than
        clients.
    """
    kind, number = kind_and_number(partition)
    if partition == "speaker":
        voices = set(speakers_of(sorted(set(speakers)), client, clients))
        return [index for index, speaker in enumerate(speakers) if speaker in voices]
    if clients > len(speakers):
        raise ValueError(
            f"num-supernodes: found {clients}, wanted at most {len(speakers)}, "
            "the number of training utterances"
        )
    chance = np.random.default_rng(seed)
    if kind == "speaker":
        return sorted(_split_evenly(speakers, client, clients, int(number), chance))
    if kind == "iid":
        return sorted(chance.permutation(len(speakers))[client::clients].tolist())
    return sorted(_split_by_dirichlet(speakers, clients, number, chance)[client])


def _split_evenly(
    speakers: Sequence[str],
    client: int,
    clients: int,
    per_speaker: int,
    chance: np.random.Generator,
) -> list[int]:
    """Return a client's utterances when each speaker's are split over ``per_speaker`` clients."""
    shares: list[np.ndarray] = []
    for speaker in sorted(set(speakers)):
        indices = chance.permutation([i for i, name in enumerate(speakers) if name == speaker])
        shares += [indices[start::per_speaker] for start in range(min(per_speaker, len(indices)))]
    if clients > len(shares):
        raise ValueError(
            f"num-supernodes: found {clients}, wanted at most {len(shares)}, "
            f"{per_speaker} for each training speaker"
        )
    # In random order: a client's number also sets its capacity.
    numbers = chance.permutation(len(shares))[client::clients]
    return [index for number in numbers for index in shares[number].tolist()]


def _split_by_dirichlet(
    speakers: Sequence[str], clients: int, alpha: float, chance: np.random.Generator
) -> list[list[int]]:
    """Return all clients' utterances when each speaker's are split in Dirichlet shares."""
    by_speaker: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        by_speaker.setdefault(speaker, []).append(index)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for speaker in sorted(by_speaker):
        shares = chance.dirichlet([alpha] * clients)
        indices = chance.permutation(by_speaker[speaker])
        cuts = np.round(np.cumsum(shares)[:-1] * len(indices)).astype(int)
        for part, piece in zip(parts, np.split(indices, cuts), strict=True):
            part.extend(piece.tolist())
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return parts
