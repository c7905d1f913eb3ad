"""The attacks find what is there to be found, and their score is the area under the ROC curve."""

import pytest
import torch

from simulation.bench.attack import auc, similarities, views

SIZE = 2_000


@pytest.fixture(scope="module")
def seen():
    return views(bound=3.3 * SIZE**0.5, clients=20)


def test_the_score_is_the_share_of_pairs_in_the_right_order():
    assert auc([3.0, 2.0], [1.0, 0.0]) == 1
    assert auc([1.0], [1.0]) == 0.5
    assert auc([3.0, 0.0], [1.0, 2.0]) == 0.5
    lost = float("-inf")
    assert auc([lost, lost], [lost]) == 0.5  # a model that noise has broken tells nothing


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("one client's update", True),
        ("the same, local-clip-norm at half its length", True),
        ("the same, local-epsilon 8", False),
        ("the mean of 3 clients", True),
        ("the mean of 3, dp-epsilon 8 over the run", False),
    ],
)
def test_a_voice_is_found_until_noise_hides_it(seen, name, found):
    """Every voice has a direction of its own beside the one that all share."""
    torch.manual_seed(0)
    shared, own = torch.randn(SIZE), torch.randn(20, SIZE)
    updates = 3 * shared + own + 0.5 * torch.randn(20, SIZE)
    references = list(3 * shared + own + 0.5 * torch.randn(20, SIZE))
    size, view = seen[name]
    scores = []
    for target in range(0, 18):
        alike = similarities(view(list(updates[target : target + size])), references)
        inside = alike[target : target + size]
        scores.append(auc(inside, alike[:target] + alike[target + size :]))
    mean = sum(scores) / len(scores)
    assert mean > 0.95 if found else abs(mean - 0.5) < 0.2
