"""Secure aggregation of partial updates: exact sums, lost clients, liars, and what is learned."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efmodel.protocol import SHARES
from efmodel.secure.quantise import Quantiser
from server_app.strategy import PartialFedAvg
from tests.server_app.federation import OWNERS, drifting
from tests.server_app.secure_clients import (
    STAGES,
    SecureClients,
    lost_at,
    run_round,
    start,
)

FOUR = {11: 1, 22: 2, 33: 3, 2**64 - 1: 3}  # ids are 64 bits without sign


def plain(capacities, examples=lambda node: 10, **options):
    """Return the model after a round in the clear."""
    return run_round(
        drifting(capacities, examples), capacities, secure_aggregation=False, **options
    )


def assert_close(found, wanted, names=OWNERS, atol=2e-6):
    for name in names:
        np.testing.assert_allclose(
            found[name].numpy(), wanted[name].numpy(), atol=atol, rtol=0, err_msg=name
        )


@st.composite
def rounds(draw):
    """Return capacities, examples, and the stages at which clients are lost."""
    ids = draw(st.lists(st.integers(1, 2**64 - 1), min_size=2, max_size=6, unique=True))
    capacities = {id: draw(st.integers(1, 3)) for id in ids}
    examples = {id: draw(st.integers(1, 1000)) for id in ids}
    stages = {id: draw(st.sampled_from((None, None, *STAGES))) for id in ids}
    return capacities, examples, {id: stage for id, stage in stages.items() if stage}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds(), st.sampled_from(["trainers", "cohort"]))
def test_secure_sums_are_plain_sums_whoever_is_lost(case, coverage):
    capacities, examples, lost = case
    clients = SecureClients(capacities, examples.get, lost_at(lost))
    _, new = run_round(clients, capacities, coverage=coverage)

    advertised = [id for id in capacities if lost.get(id) != "keys"]
    threshold = max(len(advertised) // 2 + 1, 3)
    trained = [id for id in capacities if lost.get(id) in ("unmask", None)]
    unmasking = [id for id in trained if id not in lost]
    training = [id for id in capacities if lost.get(id) not in ("keys", "shares", "check")]
    enough = min(len(training), len(trained)) >= threshold
    if not enough or len(unmasking) < len(advertised) // 2 + 1:
        assert new is None
        return
    trainers = {n: [id for id in trained if capacities[id] >= OWNERS[n]] for n in OWNERS}
    opened = [name for name in OWNERS if len(trainers[name]) >= 3]
    _, wanted = plain({id: capacities[id] for id in trained}, examples.get, coverage=coverage)
    quantiser = Quantiser(8.0, 1000.0, len(training))
    for name in OWNERS:
        if name in opened:
            weights = sum(quantiser.weight(examples[id]) for id in trainers[name])
            assert_close(new, wanted, [name], quantiser.step(weights) + 1e-6)
        else:
            assert_close(new, start(), [name], 0)
