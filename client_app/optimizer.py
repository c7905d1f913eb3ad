"""The clients' optimizer: AdamW, from nothing or from the second moments of earlier rounds.

From nothing (``client-moments = fresh``) AdamW divides each gradient by little more than its own
size: the few steps of a round are nearly steps of one length for every weight. With
``client-moments = server`` the server keeps the mean of its clients' second moments, one number per
row of each tensor, which costs few bytes; FedAdamW (Liu et al., arXiv 2510.27486) has one per
block.

With a row's second moment u of earlier rounds, T steps before this round and k steps in it::

    v_0 = (1 - beta_2^T) u                    v_k = beta_2 v_(k-1) + (1 - beta_2) g_k^2
    m_0 = 0                                   m_k = beta_1 m_(k-1) + (1 - beta_1) g_k
    theta_k = theta_(k-1) - lr (m_k / (1 - beta_1^k)) / (sqrt(v_k / (1 - beta_2^(T+k))) + epsilon)

v_k / (1 - beta_2^(T+k)) is then a mean of u and the round's squared gradients whose weights add up
to 1: u weighs as much as T steps of AdamW, and no step is corrected as if it were the first. The
first moment starts anew in each round, since it is the direction of one client's batches.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import AdamW

from efmodel.model.early_exit import EarlyExitForCTC

STEPS_BEFORE = "steps_before"  # T of a parameter group


def continued(model: EarlyExitForCTC, moments: Mapping[str, Tensor], steps_before: int) -> AdamW:
    """Return an optimizer of the model's trained parameters.

    Parameters
    ----------
    model : EarlyExitForCTC
        Parameters that require no gradient are left out.
    moments : Mapping[str, Tensor]
        u of each parameter's rows. A parameter that is not named starts from nothing.
    steps_before : int
        T.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    known = {name: p for name, p in trained.items() if steps_before and name in moments}
    new = [p for name, p in trained.items() if name not in known]
    groups = [{"params": new, STEPS_BEFORE: 0}]
    if known:
        groups.append({"params": list(known.values()), STEPS_BEFORE: steps_before})
    optimizer = AdamW(groups, fused=True)
    _, beta_2 = optimizer.defaults["betas"]
    for name, parameter in known.items():
        rows = moments[name].to(parameter.device).reshape(-1, *[1] * (parameter.dim() - 1))
        optimizer.state[parameter] = {
            "step": torch.tensor(float(steps_before), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": (1 - beta_2**steps_before) * rows.expand_as(parameter),
        }
    return optimizer


def set_rate(optimizer: AdamW, lr: float, step: int) -> None:
    """Set the learning rate for a round's step, counted from 1.

    AdamW corrects both moments by T + k steps. The rate undoes that for the first moment, which has
    seen k; weight decay, which AdamW multiplies by the rate, stays as it is.
    """
    for group in optimizer.param_groups:
        beta_1, _ = group["betas"]
        undone = (1 - beta_1 ** (group[STEPS_BEFORE] + step)) / (1 - beta_1**step)
        group["lr"] = lr * undone
        group["weight_decay"] = optimizer.defaults["weight_decay"] / undone


def second_moments(model: EarlyExitForCTC, optimizer: AdamW) -> dict[str, Tensor]:
    """Return the corrected second moment of each trained parameter, as the mean of each row."""
    moments = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            _, beta_2 = optimizer.defaults["betas"]
            rows = state["exp_avg_sq"].reshape(len(parameter), -1).mean(1)
            moments[name] = rows / (1 - beta_2 ** float(state["step"]))
    return moments
