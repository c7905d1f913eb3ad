"""What a client weighs, and the limits of it."""

import math

import pytest
from flwr.app import MetricRecord

from efmodel.weighting import WEIGHTINGS, MetricError, examples_of, weight_of

METRICS = {
    "num-examples": 20,
    "seconds": 50.0,
    "train-loss": [1.0, 3.0],
    "word-errors": [5, 15],
    "words": 20,
}


def weight(weighting: str, capacity: int = 2, **changes) -> float:
    metrics = {**METRICS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    metrics = {name: value for name, value in metrics.items() if value is not None}
    return weight_of(weighting, MetricRecord(metrics), 20.0, capacity)


@pytest.mark.parametrize(
    ("weighting", "wanted"),
    [
        ("examples", 20), ("seconds", 50), ("uniform", 1), ("depth", 40), ("loss", 1 / 3),
        ("wer", 1 / 1.5),
    ],
)  # fmt: skip
def test_each_weighting_by_its_formula(weighting, wanted):
    assert weight(weighting) == pytest.approx(wanted)


def test_lower_loss_and_lower_wer_weigh_more():
    assert weight("loss", train_loss=[0.1, 0.2]) > weight("loss") > weight("loss", train_loss=[9.0])
    assert weight("wer", word_errors=[0, 0]) > weight("wer") > weight("wer", word_errors=[20, 60])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weight_is_above_zero_at_the_limits(weighting):
    for limits in (
        {"train_loss": [300.0, 300.0]}, {"train_loss": [0.0]}, {"word_errors": [0, 0]},
        {"word_errors": [10_000, 10_000]}, {"words": 0}, {"words": None}, {"seconds": 1e-3},
    ):  # fmt: skip
        assert 0 < weight(weighting, **limits) < math.inf
    # A loss of 300 still counts beside one of 299: neither is lost in rounding.
    assert weight("loss", train_loss=[300.0]) / weight("loss", train_loss=[299.0]) > 0.99


@pytest.mark.parametrize(
    ("weighting", "changes"),
    [
        ("seconds", {"seconds": 0.0}), ("seconds", {"seconds": math.nan}),
        ("seconds", {"seconds": None}), ("loss", {"train_loss": None}),
        ("loss", {"train_loss": []}), ("loss", {"train_loss": [1.0, math.nan]}),
        ("loss", {"train_loss": [math.inf]}), ("loss", {"train_loss": [-1.0]}),
        ("wer", {"word_errors": None}), ("wer", {"word_errors": [math.nan, 1.0]}),
        ("wer", {"words": math.nan}),
    ],
)  # fmt: skip
def test_a_metric_that_is_no_number_is_refused(weighting, changes):
    with pytest.raises(MetricError, match="found"):
        weight(weighting, **changes)


@pytest.mark.parametrize("examples", [None, 0, -1, math.nan, math.inf, 10**9, [3]])
def test_absurd_numbers_of_examples_are_refused(examples):
    metrics = MetricRecord({} if examples is None else {"num-examples": examples})
    with pytest.raises(MetricError, match="num-examples: found"):
        examples_of(metrics, "num-examples")
