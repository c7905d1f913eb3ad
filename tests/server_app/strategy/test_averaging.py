"""The mean of the last rounds' models: per tensor, over rounds in which it had trainers."""

import numpy as np

from server_app.strategy import PartialFedAvg
from tests.server_app.federation import OWNERS, drifting, run_rounds, tensors

NODES = [1, 2, 3]


def strategy(rounds: int) -> PartialFedAvg:
    return PartialFedAvg(OWNERS, average_rounds=rounds, min_train_nodes=3, min_available_nodes=3)


def test_it_is_the_plain_mean_of_the_rounds_that_trained_a_tensor():
    strong, weak = drifting(dict.fromkeys(NODES, 3)), drifting(dict.fromkeys(NODES, 2))
    averaging = strategy(4)
    arrays, models = tensors("start"), []
    for server_round, play in enumerate([strong, weak, strong], start=1):
        averaging.nodes.met.clear()
        arrays = run_rounds(averaging, play, NODES, arrays, 1, server_round)
        models.append({name: array.numpy() for name, array in arrays.items()})
    result = averaging.result(arrays)
    for name in OWNERS:
        trained = [models[0], models[2]] if name == "three" else models
        wanted = np.mean([model[name] for model in trained], axis=0)
        np.testing.assert_allclose(result[name].numpy(), wanted, atol=1e-6)
    assert not np.array_equal(result["three"].numpy(), arrays["three"].numpy())


def test_older_rounds_fade():
    averaging, play = strategy(2), drifting(dict.fromkeys(NODES, 3))
    arrays, models = tensors("start"), []
    for server_round in (1, 2, 3):
        arrays = run_rounds(averaging, play, NODES, arrays, 1, server_round)
        models.append(arrays["one"].numpy())
    wanted = 0.25 * models[0] + 0.25 * models[1] + 0.5 * models[2]
    np.testing.assert_allclose(averaging.result(arrays)["one"].numpy(), wanted, atol=1e-6)


def test_training_goes_on_from_the_last_model_and_a_resumed_run_has_the_same_mean():
    play = drifting(dict.fromkeys(NODES, 3))
    plain, averaging = strategy(1), strategy(3)
    alone = run_rounds(plain, play, NODES, tensors("start"), 4)
    arrays = run_rounds(averaging, play, NODES, tensors("start"), 2)
    resumed = strategy(3)
    resumed.restore(averaging.moments, averaging.nodes.met.values())
    one = run_rounds(averaging, play, NODES, arrays, 2, first=3)
    other = run_rounds(resumed, play, NODES, arrays, 2, first=3)
    for name in OWNERS:
        assert np.array_equal(one[name].numpy(), alone[name].numpy())
        result = averaging.result(one)[name].numpy(), resumed.result(other)[name].numpy()
        assert np.array_equal(*result)
    assert plain.result(alone) is not None and not plain.moments
