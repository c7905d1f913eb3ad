"""What rounds with Gaussian noise are worth together, by Renyi differential privacy.

Flower's accountant, which is Google's ``dp-accounting``, composes the rounds (Mironov, arXiv
1702.07476; with Poisson sampling Mironov, Talwar, Zhang, arXiv 1908.10530). ``docs/privacy.md``
derives that a round of partial updates is one event of it.
"""

import logging
import math
from collections.abc import Mapping

from flwr.serverapp import GaussianPrivacyEvent, PrivacyConfig, RdpAccountant
from flwr.supercore.privacy_accounting import NeighboringRelation, SamplingMethod

from efmodel.settings import SettingsError

Rounds = Mapping[GaussianPrivacyEvent, int]  # how many rounds of each kind

POPULATION = 1_000_000  # sampling probabilities are stated in as many parts
LARGEST_MULTIPLIER = 1000.0  # a thousand times what one client can change: nothing is learned
PRECISION = 1e-4  # relative, of a multiplier that is searched for

MISSING = (
    "dp-epsilon, dp-noise-multiplier, local-epsilon: found no accountant, wanted it on the server: "
    "pip install 'ef-asr[dp]'"
)

# It warns of each order that it leaves out, and then takes the best of the others.
logging.getLogger("absl").setLevel(logging.ERROR)


def release(multiplier: float, probability: float = 1.0) -> GaussianPrivacyEvent:
    """Return the event of one round.

    Parameters
    ----------
    multiplier : float
        Standard deviation of the noise over the largest change that one client can make.
    probability : float (default: 1)
        With which each client takes part, decided by independent coins that nobody else sees; it
        is rounded up. 1 for any other way of drawing a cohort.
    """
    sampled = math.ceil(round(probability * POPULATION, 3))
    return GaussianPrivacyEvent(multiplier, sampled, POPULATION)


def epsilon(rounds: Rounds, delta: float) -> float:
    """Return the epsilon of all rounds together, at ``delta``; 0 for no rounds.

    Raises
    ------
    SettingsError
        If the accountant is not installed.
    """
    neighbours, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.POISSON
    try:
        accountant = RdpAccountant(PrivacyConfig(delta, POPULATION, neighbours, sampling))
    except ImportError:
        raise SettingsError(MISSING) from None
    for event, count in rounds.items():
        accountant.compose(event, count)
    return accountant.get_epsilon(delta)


def multiplier_for(
    target: float, delta: float, rounds: int, probability: float = 1.0, before: Rounds | None = None
) -> float:
    """Return the smallest noise multiplier with which a run comes to at most epsilon ``target``.

    It is inf where it would be above ``LARGEST_MULTIPLIER``.

    Parameters
    ----------
    target, delta : float
        Epsilon and delta of the whole run.
    rounds : int
        Rounds to come.
    probability : float (default: 1)
        As for ``release``.
    before : Rounds, optional
        Rounds that count, too.

    Raises
    ------
    SettingsError
        If the accountant is not installed.
    """

    def total(multiplier: float) -> float:
        counts = dict(before or {})
        event = release(multiplier, probability)
        counts[event] = counts.get(event, 0) + rounds
        return epsilon(counts, delta)

    low, high = 1.0, 1.0
    while total(high) > target:
        low, high = high, 2 * high
        if high > LARGEST_MULTIPLIER:
            return math.inf
    while low == high or total(low) <= target:
        low, high = low / 2, low
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if total(middle) <= target else (middle, high)
    return high
