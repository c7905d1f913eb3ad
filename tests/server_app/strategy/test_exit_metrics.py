"""Metrics of a round: exit by exit for speech, and as Flower does it for anything else."""

import pytest
from flwr.app import MetricRecord, RecordDict

from server_app.strategy.exit_metrics import aggregate


def combined(*clients):
    records = [RecordDict({"metrics": MetricRecord(metrics)}) for metrics in clients]
    return dict(aggregate(records, "num-examples"))


def test_speech_is_combined_exit_by_exit():
    deep = {
        "num-examples": 30, "seconds": 60.0, "skipped": 1, "wall-seconds": 5.0, "peak-memory": 700,
        "train-loss": [1.0, 2.0], "loss": [3.0, 4.0], "words": 10, "characters": 40,
        "word-errors": [5, 1], "character-errors": [10, 2],
    }  # fmt: skip
    shallow = {
        "num-examples": 10, "seconds": 20.0, "skipped": 0, "wall-seconds": 1.0, "peak-memory": 900,
        "train-loss": [3.0], "loss": [7.0], "words": 30, "characters": 120, "word-errors": [11],
        "character-errors": [30], "capacity": 1,
    }  # fmt: skip
    assert combined(deep, shallow) == {
        "num-examples": 40, "seconds": 80.0, "skipped": 1, "wall-seconds": 6.0, "peak-memory": 900,
        "train-loss": [1.5, 2.0], "loss": [4.0, 4.0], "wer": [0.4, 0.1], "cer": [0.25, 0.05],
    }  # fmt: skip


def test_a_client_without_held_out_speech_counts_for_nothing():
    some = {"num-examples": 1, "loss": [2.0], "words": 4, "word-errors": [1]}
    none = {"num-examples": 9, "loss": [0.0], "words": 0, "word-errors": [0]}
    assert combined(some, none) == {"num-examples": 10, "loss": [2.0], "wer": [0.25]}
    assert combined(none, none) == {"num-examples": 18}


def test_numbers_of_other_models_are_averaged_and_nothing_is_made_up():
    one = {"num-examples": 1, "loss": 1.0, "accuracy": 0.5, "by-class": [1.0, 0.0]}
    two = {"num-examples": 3, "loss": 2.0, "accuracy": 0.9, "by-class": [0.0, 1.0]}
    found = combined(one, two)
    assert found == {
        "num-examples": 4, "loss": 1.75, "accuracy": pytest.approx(0.8), "by-class": [0.25, 0.75],
    }  # fmt: skip


def test_a_metric_that_some_clients_send_is_the_mean_over_them():
    assert combined({"num-examples": 1, "f1": 0.5}, {"num-examples": 9})["f1"] == 0.5
    mixed = combined({"num-examples": 1, "loss": 1.0}, {"num-examples": 1, "loss": [3.0, 5.0]})
    assert mixed["loss"] == [2.0, 5.0]
