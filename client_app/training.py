"""The local training loop."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from client_app.optimizer import continued, second_moments, set_rate
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import NOTHING, Frozen
from efmodel.model.loss import exits_loss
from efmodel.model.masking import choose_masks
from efmodel.model.precision import autocast
from efmodel.settings import Settings
from efmodel.speech.ahead import ahead
from efmodel.speech.augmentation import Take, draw
from efmodel.speech.batches import Inputs, batches, collate
from efmodel.speech.utterances import Utterance

MAX_GRADIENT_NORM = 1.0
RAMP = 0.5  # the first share of the run, in which augmentation grows
COOLDOWN = 0.3  # the last share of the run, in which the learning rate falls


def learning_rate(settings: Settings, server_round: float) -> float:
    """Return the learning rate in a round, counted from 1; 1.5 is halfway through the first.

    "cooldown" keeps ``lr`` for most of the run, then lets it fall to 0 in a straight line. Small
    last steps let the clients' models settle on one model; steps that are small from the start
    would learn little. With t the share of the run that is over, and w ``lr_warmup``::

        lr(t) = lr min(1, t / w, (1 - t) / 0.3)                                           (1)

    The last term is left out of "constant", the second one with w = 0.
    """
    shares = [1.0]
    if settings.lr_warmup:
        shares.append((server_round - 1) / settings.rounds / settings.lr_warmup)
    if settings.lr_schedule == "cooldown":
        shares.append((settings.rounds - server_round + 1) / settings.rounds / COOLDOWN)
    return settings.lr * min(shares)


def progress(settings: Settings, server_round: int) -> float:
    """Return the share of the run that is over: 0 in round 1, 1 in the last round."""
    return (server_round - 1) / max(1, settings.rounds - 1)


def strength(settings: Settings, server_round: int, epoch: int) -> float:
    """Return how strong augmentation is in a round's epoch, counted from 0: from 0 to 1."""
    over = (server_round - 1 + epoch / settings.local_epochs) / settings.rounds
    return min(1.0, over / RAMP)


def with_frozen(settings: Settings, frozen: Frozen) -> Settings:
    """Return the run config, without augmentation if a part of the model is frozen.

    That part's output is computed once for each recording, as it is.
    """
    return settings if frozen.depth == NOTHING else replace(settings, augment="off")


def prepare_model(model: EarlyExitForCTC, settings: Settings) -> None:
    """Apply the run config's masks, gradient checkpointing and compilation to the model."""
    choose_masks(model.config, settings)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if settings.compile:
        for layer in model.encoder.layers:
            layer.compile(dynamic=True)  # batches differ in length


def proximal_term(trained: list[Tensor], received: list[Tensor], mu: float) -> Tensor:
    """Return mu / 2 |w - w_received|^2 (FedProx, arXiv 1812.06127, equation 2)."""
    pairs = zip(trained, received, strict=True)
    return mu / 2 * torch.stack([(p - r).square().sum() for p, r in pairs]).sum()


def train(
    model: EarlyExitForCTC,
    utterances: list[Utterance],
    settings: Settings,
    server_round: int,
    seed: int,
    proximal_mu: float = 0.0,
    inputs: Inputs = collate,
    space: Sequence[int] = (),
    moments: dict[str, Tensor] | None = None,
    num_layers: int | None = None,
) -> list[float]:
    """Train all exits of ``model`` in place; return the last epoch's mean loss per exit.

    Each call makes a new optimizer: its state would not fit the averaged model of the next round.
    What may go on is its second moments.

    Parameters
    ----------
    model : EarlyExitForCTC
        Parameters that require no gradient stay as they are.
    utterances : list of Utterance
        The speech to train on.
    settings : Settings
        The run config.
    server_round : int
        From 1; sets the learning rate and the exits' weights.
    seed : int
        Of dropout, masks, augmentation and the order of batches.
    proximal_mu : float
        Weight of ``proximal_term`` in the loss; 0 for none.
    inputs : Inputs
        Makes the model's arguments of a batch of utterances.
    space : Sequence[int]
        The labels between two utterances in one take; see :func:`efmodel.speech.text.space`.
    moments : dict of str to Tensor, optional
        Second moments of earlier rounds, from which the optimizer starts; they become those after
        this one. See :mod:`client_app.optimizer`. None: it starts from nothing.
    num_layers : int, optional
        Encoder layers of the whole model, below whose top ``lr_layer_decay`` counts; by default
        those of ``model``.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    torch.manual_seed(seed)  # dropout and masks
    run_progress = progress(settings, server_round)
    trained = [p for p in model.parameters() if p.requires_grad]
    received = [p.detach().clone() for p in trained] if proximal_mu else []
    prepare_model(model, settings)
    model.train()
    drawn = [
        draw(utterances, settings, seed + epoch, strength(settings, server_round, epoch))
        for epoch in range(settings.local_epochs)
    ]
    epochs = [
        batches(takes, settings.batch_seconds, seed + epoch, settings.batch_utterances)
        for epoch, takes in enumerate(drawn)
    ]

    def heard(takes: list[Take]) -> list[Utterance]:
        return [take.heard(space) for take in takes]

    steps = sum(map(len, epochs))
    # As if this client had taken as many steps in each round so far.
    optimizer = continued(
        model, moments or {}, steps_before=(server_round - 1) * steps,
        layer_decay=settings.lr_layer_decay,
        num_layers=num_layers or model.config.num_hidden_layers,
    )  # fmt: skip
    step = 0
    for number, epoch in enumerate(epochs, start=1):
        losses, count = torch.zeros(model.config.num_exits), 0
        for batch in ahead(epoch, heard):
            rate = learning_rate(settings, server_round + step / steps)
            step += 1
            set_rate(optimizer, rate, step)
            with autocast(model.device, settings.precision):
                output = model(**{k: v.to(model.device) for k, v in inputs(batch).items()})
            loss = exits_loss(
                output.losses, output.logits, output.lengths,
                model.config.exit_loss, run_progress, settings.distill,
            )  # fmt: skip
            if not torch.isfinite(loss):
                raise FloatingPointError(f"epoch {number}: found a loss of {loss}, wanted a number")
            if proximal_mu:
                loss = loss + proximal_term(trained, received, proximal_mu)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
            optimizer.step()
            losses += output.losses.detach().cpu() * len(batch)
            count += len(batch)
    if moments is not None:
        moments.update(second_moments(model, optimizer))
    return (losses / count).tolist()
