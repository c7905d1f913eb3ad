"""The differential privacy of a run: how much noise it wants, what it has spent, when it ends.

Two guarantees, each with an epsilon of its own. ``central`` is about the models that leave the
server: the server adds the noise. ``local`` is about what one client sends: it adds the noise
itself. ``docs/privacy.md`` says what each one covers, and what not.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING
from typing import Any

from flwr.common import log
from flwr.serverapp import GaussianPrivacyEvent

from efmodel.settings import Settings, SettingsError
from server_app import accountant
from server_app.run_folder import ROUNDING

CENTRAL, LOCAL = "central", "local"


@dataclass
class Guarantee:
    """One guarantee of a run.

    Attributes
    ----------
    delta : float
        At which epsilon is stated.
    event : GaussianPrivacyEvent
        What each round from now on adds.
    budget : float
        Epsilon that no round may exceed.
    spent : dict of GaussianPrivacyEvent to int
        The rounds so far.
    """

    delta: float
    event: GaussianPrivacyEvent
    budget: float
    spent: dict[GaussianPrivacyEvent, int] = field(default_factory=dict)

    @property
    def epsilon(self) -> float:
        """Epsilon of the rounds so far."""
        return accountant.epsilon(self.spent, self.delta)

    def after(self, rounds: int) -> float:
        """Return epsilon after so many further rounds."""
        return accountant.epsilon(self._with(rounds), self.delta)

    def rounds_allowed(self, most: int) -> int:
        """Return how many further rounds, up to ``most``, stay within the budget."""
        return bisect_right(range(1, most + 1), self.budget * (1 + ROUNDING), key=self.after)

    def spend(self) -> None:
        """Count one more round."""
        self.spent = self._with(1)

    def _with(self, rounds: int) -> dict[GaussianPrivacyEvent, int]:
        return {**self.spent, self.event: self.spent.get(self.event, 0) + rounds}


@dataclass
class Privacy:
    """The guarantees of a run by their names; none where nothing adds noise."""

    guarantees: dict[str, Guarantee] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, spent: Mapping[str, Any], after: int = 0) -> "Privacy":
        """Return what a run config promises.

        Parameters
        ----------
        settings : Settings
            The run config.
        spent : Mapping
            The ``ledger`` of the run that is resumed; empty for a new run.
        after : int (default: 0)
            The last round that is finished.

        Raises
        ------
        SettingsError
            If keys contradict each other, if no sensible noise is enough for ``dp-epsilon``, if a
            resumed run had other noise, or if the accountant is not installed.
        """
        _check_keys(settings)
        before = {name: _read(events) for name, events in spent.items()}
        privacy = cls(_guarantees(settings, before, settings.rounds - after))
        if (before or after) and before.keys() != privacy.guarantees.keys():
            found, wanted = _names(privacy.guarantees), _names(before)
            raise SettingsError(
                f"resume: found {found} noise, wanted {wanted}, as in {after} rounds"
            )
        return privacy

    def applied_to(self, settings: Settings, after: int = 0) -> Settings:
        """Return the run config with the noise and the rounds that this privacy allows.

        The noise multiplier is the one that ``dp-epsilon`` asks for. Each round costs the same, so
        it is known before the first one which is the last that the budget allows.

        Parameters
        ----------
        settings : Settings
            The run config.
        after : int (default: 0)
            The last round that is finished.

        Raises
        ------
        SettingsError
            If the budget of a new run allows no round.
        """
        for name, guarantee in self.guarantees.items():
            allowed = guarantee.rounds_allowed(settings.rounds - after)
            if not (allowed or after):
                wanted = f"wanted at least {guarantee.after(1):.3g}, what one round comes to"
                raise SettingsError(f"dp-budget: found {settings.dp_budget}, {wanted} ({name})")
            if after + allowed < settings.rounds:
                log(WARNING, "dp-budget: the run ends after round %d of %d: one more would come to "
                    "%s epsilon %.3g", after + allowed, settings.rounds, name,
                    guarantee.after(allowed + 1))  # fmt: skip
                settings = replace(settings, rounds=after + allowed)
        if CENTRAL in self.guarantees:
            multiplier = self.guarantees[CENTRAL].event.noise_multiplier
            settings = replace(settings, dp_noise_multiplier=multiplier)
        return settings

    def spend(self) -> None:
        """Count a round; before its first message leaves, so that no crash can undo it."""
        for guarantee in self.guarantees.values():
            guarantee.spend()

    def statement(self) -> dict[str, dict[str, float]]:
        """Return what each guarantee has come to, and what one more round would come to."""
        return {
            name: {
                "epsilon": guarantee.epsilon,
                "next-epsilon": guarantee.after(1),
                "delta": guarantee.delta,
                "noise-multiplier": guarantee.event.noise_multiplier,
            }
            for name, guarantee in self.guarantees.items()
        }

    def ledger(self) -> dict[str, list[dict[str, float]]]:
        """Return the rounds so far as JSON keeps them, for a run that resumes this one."""
        return {
            name: [
                {
                    "noise-multiplier": event.noise_multiplier,
                    "probability": event.sample_size / event.population_size,
                    "rounds": count,
                }
                for event, count in guarantee.spent.items()
            ]
            for name, guarantee in self.guarantees.items()
        }

    def log_plan(self, rounds: int, nodes: int) -> None:
        """Log what so many further rounds will come to, and whether delta suits so many nodes."""
        for name, guarantee in self.guarantees.items():
            event = guarantee.event
            log(INFO, "privacy, %s: noise multiplier %.4g, each client with probability %g a round;"
                " %d rounds come to epsilon %.3g at delta %g", name, event.noise_multiplier,
                event.sample_size / event.population_size, rounds, guarantee.after(rounds),
                guarantee.delta)  # fmt: skip
            if guarantee.delta * nodes >= 1:  # publishing all data of one client would be as good
                log(WARNING, "dp-delta: found %g, wanted below 1 / %d, the number of nodes",
                    guarantee.delta, nodes)  # fmt: skip

    def log_spent(self) -> None:
        """Log what all rounds came to."""
        for name, guarantee in self.guarantees.items():
            log(INFO, "privacy, %s: epsilon %.3g at delta %g after %d rounds", name,
                guarantee.epsilon, guarantee.delta, sum(guarantee.spent.values()))  # fmt: skip


def _guarantees(
    settings: Settings, before: Mapping[str, dict[GaussianPrivacyEvent, int]], rounds: int
) -> dict[str, Guarantee]:
    limit = settings.dp_budget or math.inf
    guarantees = {}
    if settings.dp_noise_multiplier or settings.dp_epsilon:
        spent = before.get(CENTRAL, {})
        probability = settings.fraction_train if settings.dp_sampling == "poisson" else 1.0
        multiplier = settings.dp_noise_multiplier or _multiplier(
            settings, rounds, probability, spent
        )
        event = accountant.release(multiplier, probability)
        budget = min(limit, settings.dp_epsilon or math.inf)
        guarantees[CENTRAL] = Guarantee(settings.dp_delta, event, budget, spent)
    if settings.local_epsilon:
        event = accountant.release(local_multiplier(settings.local_epsilon, settings.local_delta))
        guarantees[LOCAL] = Guarantee(settings.dp_delta, event, limit, before.get(LOCAL, {}))
    return guarantees


def _multiplier(
    settings: Settings, rounds: int, probability: float, spent: accountant.Rounds
) -> float:
    """Return the multiplier for ``dp-epsilon``, of which earlier rounds have spent a part."""
    if spent and not rounds:  # a finished run that only writes its results again
        return [*spent][-1].noise_multiplier
    target, delta = settings.dp_epsilon, settings.dp_delta
    multiplier = accountant.multiplier_for(target, delta, rounds, probability, spent)
    if math.isinf(multiplier):
        most = accountant.LARGEST_MULTIPLIER
        lowest = accountant.epsilon({**spent, accountant.release(most, probability): rounds}, delta)
        wanted = f"wanted at least {lowest:.3g}, what {rounds} rounds come to"
        why = f"with {most:g} times as much noise as max-update-norm"
        raise SettingsError(f"dp-epsilon: found {target}, {wanted} {why}")
    return multiplier


def local_multiplier(epsilon: float, delta: float) -> float:
    """Return the multiplier of ``LocalDpMod``'s noise, over the distance 2 C of two changes.

    The classical formula (Dwork and Roth 2014, theorem A.1), which is proven for epsilon below 1.
    The accountant does not use it: it is told the noise.
    """
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _check_keys(settings: Settings) -> None:
    if settings.dp_epsilon and settings.dp_noise_multiplier:
        wanted = f"wanted 0: dp-epsilon = {settings.dp_epsilon} computes it"
        raise SettingsError(f"dp-noise-multiplier: found {settings.dp_noise_multiplier}, {wanted}")
    if settings.dp_budget and not settings.has_noise:
        wanted = "wanted 0: set dp-epsilon, dp-noise-multiplier or local-epsilon, too"
        raise SettingsError(f"dp-budget: found {settings.dp_budget}, {wanted}")
    if settings.local_clip_norm and settings.client_moments != "fresh":
        wanted = "wanted fresh with local-clip-norm: second moments would not be clipped"
        raise SettingsError(f"client-moments: found {settings.client_moments!r}, {wanted}")


def _read(events: Iterable[Mapping[str, float]]) -> dict[GaussianPrivacyEvent, int]:
    return {
        accountant.release(each["noise-multiplier"], each["probability"]): int(each["rounds"])
        for each in events
    }


def _names(guarantees: Iterable[str]) -> str:
    return " and ".join(sorted(guarantees)) or "no"
