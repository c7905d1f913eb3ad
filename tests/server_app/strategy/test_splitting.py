"""However a round's replies reach the strategy, and in what order, the model is the same."""

import numpy as np
from flwr.app import ConfigRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from server_app.strategy.registry import STRATEGIES
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting, tensors


def trained(strategy: str, capacities: dict[int, int], deliver) -> dict[str, np.ndarray]:
    made = STRATEGIES[strategy](OWNERS, min_train_nodes=len(capacities))
    grid = LocalGrid(drifting(capacities, examples=lambda node: 3 * node), capacities)
    messages = made.configure_train(1, tensors("start"), ConfigRecord(), grid)
    new, _ = made.aggregate_train(1, deliver(grid.send_and_receive(messages)))
    return {name: array.numpy() for name, array in new.items()}


@settings(deadline=None, max_examples=30)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    capacities=st.lists(st.integers(1, 3), min_size=2, max_size=6),
    chance=st.randoms(use_true_random=False),
    cut=st.integers(0, 6),
)
def test_a_list_a_generator_two_halves_or_another_order(strategy, capacities, chance, cut):
    nodes = dict(enumerate(capacities, start=1))

    def in_halves(replies):
        yield from replies[:cut]
        yield from iter(replies[cut:])

    def shuffled(replies):
        return iter(chance.sample(replies, len(replies)))

    whole = trained(strategy, nodes, tuple)
    for deliver in (list, iter, in_halves):
        again = trained(strategy, nodes, deliver)
        assert all(np.array_equal(again[name], whole[name]) for name in OWNERS)
    other = trained(strategy, nodes, shuffled)
    for name in OWNERS:
        np.testing.assert_allclose(other[name], whole[name], atol=1e-6)
