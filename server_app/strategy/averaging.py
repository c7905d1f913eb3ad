"""The result of a run as the mean of its last rounds' models.

A round's model is the mean of few clients and moves to and fro from round to round; a mean over
rounds does not. It is IMA of Zhou et al., "Understanding and Improving Model Averaging in Federated
Learning on Heterogeneous Data" (arXiv 2305.07845), here per tensor and with a memory that fades.
Training goes on from the round's own model.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord
from flwr.common import NDArray

from server_app.strategy.arrays import packed

AVERAGE, ROUNDS = "average", "averaged-rounds"  # kinds of moments, which checkpoints keep

Moments = dict[str, dict[str, NDArray]]


def include(moments: Moments, name: str, value: NDArray, window: int) -> None:
    """Add a round's value of a tensor to its mean.

    With r the rounds in which the tensor had trainers, this one included, and K the window::

        mean <- mean + (theta - mean) / min(r, K)

    It is the mean of these rounds until there are K of them. From then on older rounds fade: the
    weight of a round falls by (1 - 1/K) with each one after it.

    Parameters
    ----------
    moments : dict
        A strategy's moments; the mean and r are kept there.
    name : str
        The tensor's name.
    value : NDArray
        Its value theta after the round.
    window : int
        K, in rounds.
    """
    rounds = moments.setdefault(ROUNDS, {})
    means = moments.setdefault(AVERAGE, {})
    rounds[name] = rounds.get(name, np.zeros(1)) + 1
    mean = means.get(name, value)
    means[name] = np.asarray(mean + (value - mean) / min(rounds[name][0], window), value.dtype)


def averaged(moments: Mapping[str, Mapping[str, NDArray]], arrays: ArrayRecord) -> ArrayRecord:
    """Return the model with each tensor's mean over rounds, where there is one."""
    means = moments.get(AVERAGE, {})
    return ArrayRecord(
        {name: packed(means[name]) if name in means else array for name, array in arrays.items()}
    )
