"""A personal model: the result of a run, fine-tuned on this node's own speech and kept here."""

from dataclasses import replace

import torch
from flwr.app import Message, MetricRecord, RecordDict

from client_app.recordings import recordings
from client_app.round import checked_capacity, cut_model, held_out_metrics, training_seed
from client_app.task import Task
from client_app.training import train
from efmodel.evaluation import score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import parse
from efmodel.model.lora import with_adapters
from efmodel.model.precision import autocast
from efmodel.protocol import METRICS, PERSONAL, read_model
from efmodel.settings import Settings
from efmodel.speech.text import space


def personalise(task: Task, message: Message) -> Message:
    """Fine-tune the message's model; reply with what it gets wrong before and after.

    Both are scored on held-out speech. A node that holds none out trains nothing. No tensor and no
    text leaves the node.

    Raises
    ------
    CapacityError
        If the message holds a deeper model than this node can train.
    DataError
        If the node's recordings are missing or none can be used.
    """
    settings = task.settings
    config, tokenizer = read_model(task.request)
    model = cut_model(task, message, config.cut(checked_capacity(task)))
    speech = recordings(task, config, tokenizer)

    def metrics() -> MetricRecord:
        with autocast(model.device, settings.precision):
            scores = score(model, speech.held_out, tokenizer, settings.batch_seconds)
        return MetricRecord(held_out_metrics(scores, model.config.num_exits))

    reply = RecordDict({METRICS: metrics()})
    torch.manual_seed(training_seed(task))  # of new adapters
    model = with_trained_part(model, settings, config.num_hidden_layers)
    if speech.held_out and any(p.requires_grad for p in model.parameters()):
        train(
            model, speech.to_train, fine_tuning(settings), server_round=1,
            seed=training_seed(task), space=space(tokenizer), num_layers=config.num_hidden_layers,
        )  # fmt: skip
    reply[PERSONAL] = metrics()
    return Message(reply, reply_to=message)


def with_trained_part(
    model: EarlyExitForCTC, settings: Settings, num_layers: int
) -> EarlyExitForCTC:
    """Return the model with gradients on what ``personal`` names.

    With "lora" that is the adapters alone, without the heads that ``train=lora`` trains beside
    them; a model without any gets new ones, whose output is zero. Layers that ``freeze`` names have
    none: with those alone, a client trains nothing.

    Parameters
    ----------
    model : EarlyExitForCTC
        The model received, cut at the client's capacity.
    settings : Settings
        The run config.
    num_layers : int
        Encoder layers of the whole model.
    """
    kind = settings.personal
    if kind == "lora" and not model.config.lora_rank:
        model = with_adapters(model, settings.lora_rank)
    part = settings.train if kind == "all" else kind
    parse(settings.freeze, part, num_layers).keep(model)
    if kind == "lora":
        model.exits.requires_grad_(False)
    return model


def fine_tuning(settings: Settings) -> Settings:
    """Return the run config of the fine-tuning: a run of one round, with its own epochs and rate.

    The learning rate rises and falls within it as that of the run does over the run.
    """
    return replace(
        settings, rounds=1, local_epochs=settings.personal_epochs, lr=settings.personal_lr
    )
