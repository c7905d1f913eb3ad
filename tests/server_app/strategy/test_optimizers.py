"""Server optimizers: Flower's while everybody trains everything, and still where nobody trains."""

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from server_app import strategy as ours
from tests.server_app.federation import OWNERS, drifting, run_rounds, tensors

NODES = [1, 2, 3]
FULL = dict.fromkeys(NODES, 3)
EXAMPLES = {1: 3, 2: 11, 3: 7}
OPTIMIZERS = [
    ("PartialFedAvg", "FedAvg", {}),
    ("PartialFedAvgM", "FedAvgM", {"server_learning_rate": 0.7, "server_momentum": 0.9}),
    ("PartialFedAvgM", "FedAvgM", {}),
    ("PartialFedAdam", "FedAdam", {}),
    ("PartialFedAdam", "FedAdam", {"eta": 0.02, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01}),
    ("PartialFedYogi", "FedYogi", {}),
    ("PartialFedAdagrad", "FedAdagrad", {}),
]


def make(module, name, arguments, **more):
    everyone = {"min_train_nodes": len(NODES), "min_available_nodes": len(NODES)}
    return getattr(module, name)(**more, **everyone, **arguments)


@pytest.mark.parametrize(("name", "theirs", "arguments"), OPTIMIZERS)
def test_at_full_depth_it_is_flowers_own_class(name, theirs, arguments):
    play = drifting(FULL, lambda node: EXAMPLES[node])
    one = make(ours, name, arguments, owner_exits=OWNERS)
    other = make(flower, theirs, arguments)
    start = tensors("start")
    for rounds in range(1, 6):
        found, wanted = (run_rounds(s, play, NODES, start, 1, rounds) for s in (one, other))
        for tensor in OWNERS:
            a, b = found[tensor].numpy(), wanted[tensor].numpy()
            np.testing.assert_allclose(a, b, atol=1e-6, rtol=0, err_msg=f"{tensor} {rounds}")
        assert not np.array_equal(found["front"].numpy(), start["front"].numpy())
        start = wanted


@pytest.mark.parametrize(("name", "theirs", "arguments"), OPTIMIZERS[1:])
def test_a_tensor_without_trainers_keeps_its_value_and_its_moments(name, theirs, arguments):
    """Rounds 1 and 4 reach exit 3, rounds 2 and 3 do not: to exit 3 they never happened."""
    strong, weak = drifting(FULL), drifting(dict.fromkeys(NODES, 2))
    strategy = make(ours, name, arguments, owner_exits=OWNERS)

    def one_round(play, server_round, arrays):
        strategy.nodes.met.clear()
        return run_rounds(strategy, play, NODES, arrays, 1, server_round)

    first = one_round(strong, 1, tensors("start"))
    moments = {kind: known["three"].copy() for kind, known in strategy.moments.items()}
    second = one_round(weak, 2, first)
    third = one_round(weak, 3, second)
    assert np.array_equal(third["three"].numpy(), first["three"].numpy())
    assert not np.array_equal(third["two"].numpy(), second["two"].numpy())
    for kind, moment in moments.items():
        assert np.array_equal(strategy.moments[kind]["three"], moment)
    fourth = one_round(strong, 4, third)

    # The same two rounds without a pause give the same exit 3.
    strategy = make(ours, name, arguments, owner_exits=OWNERS)
    first = one_round(strong, 1, tensors("start"))
    straight = one_round(strong, 4, first)
    np.testing.assert_allclose(straight["three"].numpy(), fourth["three"].numpy(), atol=1e-7)


def test_a_round_in_which_all_fail_moves_nothing():
    strategy = make(ours, "PartialFedAdam", {}, owner_exits=OWNERS)
    start = run_rounds(strategy, drifting(FULL), NODES, tensors("start"), 1)

    def broken(message):
        if message.metadata.message_type == "query":
            return drifting(FULL)(message)
        raise RuntimeError("no power")

    after = run_rounds(strategy, broken, NODES, start, 1, 2)
    assert after is start
