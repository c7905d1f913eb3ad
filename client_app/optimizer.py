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

With ``lr-layer-decay`` lower layers learn more slowly, see ``layer_factor``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import AdamW

from efmodel.model.cutting import layer_number
from efmodel.model.early_exit import EarlyExitForCTC

# Of a parameter group: T, and what its learning rate is multiplied by.
STEPS_BEFORE, FACTOR = "steps_before", "factor"


def layer_factor(name: str, decay: float, num_layers: int) -> float:
    """Return what the learning rate of a tensor is multiplied by.

    With the decay gamma, for a tensor of encoder layer l of L::

        gamma^(L - l)

    What comes before the layers counts as l = 0. Heads of exits have the whole rate: they start
    from nothing, wherever they are. It is discriminative fine-tuning (Howard and Ruder,
    arXiv 1801.06146): the lower a layer of a pretrained model, the less it has to change.

    Parameters
    ----------
    name : str
        The tensor.
    decay : float
        gamma, above 0 and up to 1.
    num_layers : int
        L, of the whole model: a layer then learns as fast on a client that holds few layers as on
        one that holds all.
    """
    if name.startswith("exits."):
        return 1.0
    return float(decay ** (num_layers - (layer_number(name) or 0)))


def continued(
    model: EarlyExitForCTC,
    moments: Mapping[str, Tensor],
    steps_before: int,
    layer_decay: float = 1.0,
    num_layers: int = 0,
) -> AdamW:
    """Return an optimizer of the model's trained parameters.

    Parameters
    ----------
    model : EarlyExitForCTC
        Parameters that require no gradient are left out.
    moments : Mapping[str, Tensor]
        u of each parameter's rows. A parameter that is not named starts from nothing.
    steps_before : int
        T.
    layer_decay : float (default: 1)
        See ``layer_factor``.
    num_layers : int
        Encoder layers of the whole model.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    known = {name: p for name, p in trained.items() if steps_before and name in moments}
    members: dict[tuple[int, float], list[Tensor]] = {}
    for name, parameter in trained.items():
        steps = steps_before if name in known else 0
        factor = layer_factor(name, layer_decay, num_layers)
        members.setdefault((steps, factor), []).append(parameter)
    groups = [{"params": p, STEPS_BEFORE: t, FACTOR: f} for (t, f), p in members.items()]
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
    seen k; weight decay, which AdamW multiplies by the rate, stays as it is. The factor of a layer
    applies to both.
    """
    for group in optimizer.param_groups:
        beta_1, _ = group["betas"]
        undone = (1 - beta_1 ** (group[STEPS_BEFORE] + step)) / (1 - beta_1**step)
        group["lr"] = lr * group[FACTOR] * undone
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
