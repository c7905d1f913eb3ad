"""Layer-wise server optimizers against their equations, computed apart."""

import numpy as np
import pytest

from server_app import strategy as ours
from tests.server_app.federation import OWNERS, drifting, run_rounds, tensors

NODES = [1, 2, 3]
CAPACITIES = {1: 1, 2: 2, 3: 3}


def make(name, **arguments):
    everyone = {"min_train_nodes": len(NODES), "min_available_nodes": len(NODES)}
    return getattr(ours, name)(OWNERS, **everyone, **arguments)


def numbers(arrays):
    return {name: array.numpy().astype(np.float64) for name, array in arrays.items()}


def changes(start, server_round=1):
    """What ``drifting`` does to each tensor: the changes of its trainers."""
    moved = {name: [] for name in OWNERS}
    for node, capacity in CAPACITIES.items():
        held = [name for name in OWNERS if OWNERS[name] <= capacity]
        for place, name in enumerate(held):
            rng = np.random.default_rng([node, server_round, place])
            moved[name].append(0.1 * rng.normal(size=start[name].shape))
    return moved


def test_lars_moves_each_tensor_by_a_share_of_its_norm():
    start = tensors("start")
    strategy = make("PartialLars", eta=0.03)
    new = numbers(run_rounds(strategy, drifting(CAPACITIES), NODES, start, 1))
    for name, old in numbers(start).items():
        step = new[name] - old
        assert np.linalg.norm(step) == pytest.approx(0.03 * np.linalg.norm(old), rel=1e-4)
        mean = np.mean(changes(numbers(start))[name], axis=0)
        np.testing.assert_allclose(
            step / np.linalg.norm(step), mean / np.linalg.norm(mean), atol=1e-4
        )


def test_lars_adds_momentum():
    start = tensors("start")
    strategy = make("PartialLars", eta=0.03, server_momentum=0.5)
    first = run_rounds(strategy, drifting(CAPACITIES), NODES, start, 1)
    second = numbers(run_rounds(strategy, drifting(CAPACITIES), NODES, first, 1, first=2))
    old, mid = numbers(start), numbers(first)
    for name in OWNERS:
        change = np.mean(changes(mid, 2)[name], axis=0)
        own = 0.03 * np.linalg.norm(mid[name]) / np.linalg.norm(change) * change
        wanted = mid[name] + 0.5 * (mid[name] - old[name]) + own
        np.testing.assert_allclose(second[name], wanted, atol=1e-5)


def test_lamb_takes_the_direction_of_adam_and_the_length_of_the_tensor():
    start = tensors("start")
    play = drifting(CAPACITIES)
    adam = numbers(run_rounds(make("PartialFedAdam", eta=0.02), play, NODES, start, 3))
    strategy = make("PartialLamb", eta=0.02)
    arrays = start
    for server_round in (1, 2, 3):
        before = numbers(arrays)
        arrays = run_rounds(strategy, play, NODES, arrays, 1, server_round)
        for name, old in before.items():
            step = np.linalg.norm(numbers(arrays)[name] - old)
            assert step == pytest.approx(0.02 * np.linalg.norm(old), rel=1e-4)
        if server_round == 1:
            one = numbers(run_rounds(make("PartialFedAdam", eta=0.02), play, NODES, start, 1))
            for name, old in numbers(start).items():
                ours_, theirs = numbers(arrays)[name] - old, one[name] - old
                cosine = (ours_ * theirs).sum() / np.linalg.norm(ours_) / np.linalg.norm(theirs)
                assert cosine == pytest.approx(1, abs=1e-5)
    assert any(np.abs(adam[name] - numbers(arrays)[name]).max() > 1e-3 for name in OWNERS)


@pytest.mark.parametrize("name", ["PartialLars", "PartialLamb"])
def test_a_tensor_of_zeros_moves_too(name):
    start = tensors("start")
    zeros = type(start)({key: type(a)(np.zeros_like(a.numpy())) for key, a in start.items()})
    new = run_rounds(make(name, eta=0.1), drifting(CAPACITIES), NODES, zeros, 1)
    for array in new.values():
        assert np.isfinite(array.numpy()).all() and array.numpy().any()


def test_fedexp_takes_longer_steps_where_clients_disagree():
    start = tensors("start")
    strategy = make("PartialFedExP", epsilon=1e-4)
    new = numbers(run_rounds(strategy, drifting(CAPACITIES), NODES, start, 1))
    for name, old in numbers(start).items():  # each exit block is one tensor here
        moved = changes(numbers(start))[name]
        mean = np.mean(moved, axis=0)
        squares = np.mean([np.sum(change**2) for change in moved])
        rate = max(1, squares / (2 * (np.sum(mean**2) + 1e-4)))
        np.testing.assert_allclose(new[name], old + rate * mean, atol=1e-5)
        assert strategy.rates[OWNERS[name]] == pytest.approx(rate, rel=1e-3)
    assert strategy.rates[0] > 1 and strategy.rates[3] == 1  # exit 3 has one trainer


def test_fedexp_refuses_noise():
    with pytest.raises(ValueError, match="dp-noise-multiplier"):
        make("PartialFedExP", dp_noise_multiplier=1.0, max_update_norm="1", weighting="uniform")
