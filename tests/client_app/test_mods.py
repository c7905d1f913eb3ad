"""Clipping and noise on the client, through the real ClientApp and Flower's own mods."""

import math

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app import app
from efmodel import EarlyExitForCTC
from efmodel.protocol import describe_model
from server_app.privacy import local_multiplier
from simulation import in_process_grid  # noqa: F401  (a Message wants the identity it sets)
from tests.conftest import small_config, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = [(f"{i}.wav", "one two", "a", 0.6 + 0.1 * i) for i in range(6)]
    return write_folder(tmp_path_factory.mktemp("speech") / "a", rows)


def change(tokenizer, folder, capacity: int = 2, **run) -> np.ndarray:
    """Return how one round of training moved the model, all values in a row."""
    torch.manual_seed(0)
    whole = EarlyExitForCTC(small_config())
    request = ConfigRecord(
        {**describe_model(whole.config, tokenizer), "server-round": 1, "capacity": capacity}
    )
    start = whole.cut(capacity).state_dict()
    content = RecordDict({"config": request, "arrays": ArrayRecord(start)})
    message = Message(content, dst_node_id=7, message_type="train")
    run = {"local-epochs": 1, **{key.replace("_", "-"): value for key, value in run.items()}}
    context = Context(1, 7, {"data-path": str(folder), "capacity": 3}, RecordDict(), run)
    trained = app(message, context).content["arrays"]
    assert list(trained) == list(start)
    moved = [trained[name].numpy() - start[name].numpy() for name in start]
    return np.concatenate([m.ravel() for m in moved])


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_cut_clients_change_is_clipped_before_it_leaves(tokenizer, folder, capacity):
    free = float(np.linalg.norm(change(tokenizer, folder, capacity)))
    clipped = change(tokenizer, folder, capacity, local_clip_norm=free / 10)
    assert np.linalg.norm(clipped) == pytest.approx(free / 10, rel=1e-3)
    within = change(tokenizer, folder, capacity, local_clip_norm=2 * free)
    assert np.linalg.norm(within) == pytest.approx(free, rel=1e-3)


def test_local_noise_is_that_of_the_gaussian_mechanism(tokenizer, folder):
    clip, epsilon, delta = 0.01, 0.5, 1e-5
    noisy = change(
        tokenizer, folder, local_clip_norm=clip, local_epsilon=epsilon, local_delta=delta
    )
    wanted = 2 * clip * math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    # What the accountant is told: this noise over the distance of any two clipped changes.
    assert wanted == pytest.approx(2 * clip * local_multiplier(epsilon, delta))
    assert noisy.std() == pytest.approx(wanted, rel=0.03)


def test_fedprox_stays_nearer_to_the_model_received(tokenizer, folder):
    free, near, nearest = (
        np.linalg.norm(change(tokenizer, folder, local_epochs=4, proximal_mu=mu))
        for mu in (0.0, 1.0, 100.0)
    )
    assert nearest < near < free
