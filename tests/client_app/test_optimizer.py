"""AdamW that starts from second moments, against its equations written out in numpy."""

import numpy as np
import pytest
import torch
from torch.optim import AdamW

from client_app.optimizer import continued, second_moments, set_rate
from efmodel import EarlyExitForCTC
from efmodel.config import PRESETS, EarlyExitConfig
from tests.conftest import small_config

BETA_1, BETA_2, EPSILON, DECAY = 0.9, 0.999, 1e-8, 0.01
NAME = "exits.1.projection.weight"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EarlyExitForCTC(small_config())


def take_steps(model, optimizer, gradients, lr):
    """Give each parameter the same gradients, [steps], everywhere."""
    for step, gradient in enumerate(gradients, start=1):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        set_rate(optimizer, lr, step)
        optimizer.step()


def stepped(theta, gradients, rate, v=0.0, steps=0):
    """Return what AdamW makes of a tensor, by equation (4) of docs/aggregation.md, in float64."""
    m = 0.0
    for k, g in enumerate(gradients, start=1):
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        direction = m / (1 - BETA_1**k)
        size = np.sqrt(v / (1 - BETA_2 ** (steps + k))) + EPSILON
        theta = theta * (1 - rate * DECAY) - rate * direction / size
    return theta


def test_a_round_follows_the_equations(model):
    """Rows of unlike second moments; one that has none starts from nothing."""
    gradients, before, lr = [0.3, -0.1, 0.2], 40, 0.01
    start = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    start = {name: values.copy() for name, values in start.items()}
    rows = torch.rand(len(start[NAME]))
    optimizer = continued(model, {NAME: rows}, before)
    take_steps(model, optimizer, gradients, lr)

    for name, parameter in model.named_parameters():
        v = (1 - BETA_2**before) * rows.double().numpy()[:, None] if name == NAME else 0.0
        theta = stepped(start[name], gradients, lr, v, before if name == NAME else 0)
        np.testing.assert_allclose(parameter.detach().numpy(), theta, atol=1e-6, err_msg=name)
    kept = second_moments(model, optimizer)
    wanted = (v_of(rows, gradients, before)) / (1 - BETA_2 ** (before + len(gradients)))
    np.testing.assert_allclose(kept[NAME].numpy(), wanted, rtol=1e-5)


def v_of(rows, gradients, before):
    v = (1 - BETA_2**before) * rows.double().numpy()
    for g in gradients:
        v = BETA_2 * v + (1 - BETA_2) * g**2
    return v


def test_from_nothing_it_is_adamw_to_the_last_bit(model):
    other = EarlyExitForCTC(model.config)
    other.load_state_dict(model.state_dict())
    plain = AdamW(other.parameters(), fused=True)
    assert len(continued(model, {}, 12, 1.0, num_layers=4).param_groups) == 1
    for gradient in (0.3, -0.1):
        for parameter in other.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        plain.param_groups[0]["lr"] = 0.01
        plain.step()
    take_steps(model, continued(model, {}, 12), [0.3, -0.1], lr=0.01)
    for name, values in other.state_dict().items():
        assert torch.equal(values, model.state_dict()[name]), name


def factor(name: str, decay: float, layers: int) -> float:
    """Return decay^(L - l), written out by the model's names."""
    parts = name.split(".")
    if parts[0] == "exits":
        return 1.0
    below = layers - (int(parts[2]) + 1) if parts[:2] == ["encoder", "layers"] else layers
    return np.prod([decay] * below)


@pytest.mark.parametrize("before", [0, 40])
def test_lower_layers_learn_more_slowly_by_the_equation(model, before):
    """A cut model's layers learn as they would in the whole one, of four layers."""
    model, gradients, lr, decay = model.cut(2), [0.3, -0.1], 0.01, 0.5
    start = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    rows = torch.rand(len(start[NAME]))
    optimizer = continued(model, {NAME: rows}, before, decay, num_layers=4)
    take_steps(model, optimizer, gradients, lr)
    factors = set()
    for name, parameter in model.named_parameters():
        rate = lr * factor(name, decay, 4)
        factors.add(rate / lr)
        continues = before and name == NAME
        v = (1 - BETA_2**before) * rows.double().numpy()[:, None] if continues else 0.0
        theta = stepped(start[name], gradients, rate, v, before if continues else 0)
        np.testing.assert_allclose(parameter.detach().numpy(), theta, atol=1e-6, err_msg=name)
    assert factors == {1.0, 1 / 16, 1 / 8, 1 / 4}  # heads, before the layers, layers 1 and 2


def test_equal_gradients_leave_the_second_moment_as_it_is_whatever_the_rounds(model):
    """It is a mean whose weights add up to 1: no number of steps biases it."""
    moments = {}
    for before in (0, 3, 6):
        optimizer = continued(model, moments, before)
        take_steps(model, optimizer, [0.5] * 3, lr=0.0)
        moments = second_moments(model, optimizer)
        assert moments.keys() == dict(model.named_parameters()).keys()
        for name, rows in moments.items():
            np.testing.assert_allclose(rows.numpy(), 0.25, rtol=1e-4, err_msg=name)


def test_frozen_parameters_have_none(model):
    model.exits.requires_grad_(False)
    optimizer = continued(model, {}, 0)
    take_steps(model, optimizer, [0.5], lr=0.01)
    assert not any(name.startswith("exits.") for name in second_moments(model, optimizer))


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_they_cost_few_bytes(preset):
    """Most are those of vectors, whose rows are single numbers."""
    with torch.device("meta"):
        model = EarlyExitForCTC(EarlyExitConfig(**PRESETS[preset]))
    parameters = list(model.parameters())
    assert sum(map(len, parameters)) < 0.02 * sum(p.numel() for p in parameters)
