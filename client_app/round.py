"""One round of training on a node."""

import resource
import time
import zlib
from typing import cast

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from client_app.cache import frozen as frozen_cache
from client_app.cache.features import FeatureCache, FrozenFeatures
from client_app.capacity.own import CapacityError, node_capacity
from client_app.recordings import Recordings, read_again, recordings
from client_app.task import Task
from client_app.training import train, with_frozen
from efmodel.cache_folder import cache_folder
from efmodel.config import EarlyExitConfig
from efmodel.evaluation import ExitScore, score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import NOTHING, Frozen, parse
from efmodel.model.precision import autocast
from efmodel.protocol import (
    ARRAYS,
    CHARACTER_ERRORS,
    CHARACTERS,
    FROZEN_SET,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    PEAK_MEMORY,
    PROXIMAL_MU,
    SECOND_MOMENTS,
    SECONDS,
    SKIPPED,
    TRAIN_LOSS,
    WALL_SECONDS,
    WORD_ERRORS,
    WORDS,
    read_model,
)
from efmodel.speech.batches import Inputs, collate
from efmodel.speech.recorded import ChangedError
from efmodel.speech.text import space


def train_round(task: Task, message: Message, context: Context) -> Message:
    """Score the received model on held-out speech, train it, and reply with what was trained.

    Raises
    ------
    CapacityError
        If the message holds a deeper model than this node can train.
    DataError
        If the node's recordings are missing or leave nothing to train on.
    """
    began = time.monotonic()
    settings = task.settings
    capacity = checked_capacity(task)
    config, tokenizer = read_model(task.request)
    speech = recordings(task, config, tokenizer)

    frozen = parse(settings.freeze, settings.train, config.num_hidden_layers)
    model = cut_model(task, message, config.cut(capacity))
    frozen.keep(model)
    settings = with_frozen(settings, frozen)
    inputs = model_inputs(task, model, frozen)

    moments = received_moments(message)
    # Flower's FedProx strategy sends its own mu.
    mu = cast(float, task.request.get(PROXIMAL_MU, settings.proximal_mu))
    try:
        with autocast(model.device, settings.precision):
            scores = score(model, speech.held_out, tokenizer, settings.batch_seconds, inputs)
        losses = train(
            model, speech.to_train, settings, task.server_round, training_seed(task), mu, inputs,
            space(tokenizer), moments, config.num_hidden_layers,
        )  # fmt: skip
    except ChangedError:
        read_again()  # the next round leaves out what cannot be used any more
        raise

    metrics = training_metrics(speech, losses) | held_out_metrics(scores, model.config.num_exits)
    metrics[WALL_SECONDS] = time.monotonic() - began
    arrays = ArrayRecord({n: t for n, t in model.state_dict().items() if not frozen.holds(n)})
    reply = RecordDict({ARRAYS: arrays, METRICS: MetricRecord(metrics)})
    if moments is not None:
        reply[SECOND_MOMENTS] = ArrayRecord({n: t.cpu() for n, t in moments.items()})
    return Message(reply, reply_to=message)


def received_moments(message: Message) -> dict[str, torch.Tensor] | None:
    """Return the optimizer's second moments that a request carries; None if it asks for none."""
    record = message.content.array_records.get(SECOND_MOMENTS)
    return None if record is None else dict(record.to_torch_state_dict())


def checked_capacity(task: Task) -> int:
    """Return the exit to train up to.

    Raises
    ------
    CapacityError
        If this node cannot train it.
    """
    requested = task.requested_capacity
    if requested == 1:  # every node can; a model of another shape may have no other exit
        return requested
    capacity = node_capacity(task)
    if requested > capacity:
        raise CapacityError(
            f"capacity: found a model of {requested} exits in the message, wanted at most "
            f"{capacity}, which this node can train; strategies that send whole models want "
            "capacities=full"
        )
    return requested


def cut_model(task: Task, message: Message, config: EarlyExitConfig) -> EarlyExitForCTC:
    """Return the model with the message's tensors, and those frozen on disk, on its device."""
    model = EarlyExitForCTC(config)
    tensors = message.content.array_records[ARRAYS].to_torch_state_dict()
    if FROZEN_SET in task.request:
        tensors |= frozen_cache.load(str(task.request[FROZEN_SET]))
    model.load_state_dict(tensors)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def model_inputs(task: Task, model: EarlyExitForCTC, frozen: Frozen) -> Inputs:
    """Return the function that makes a batch: of samples, or of the frozen part's output."""
    if frozen.depth == NOTHING:
        return collate
    cache = None
    if task.settings.cache_mb:
        depth = min(frozen.depth, model.config.num_hidden_layers)
        folder = cache_folder() / "features" / f"{task.request[FROZEN_SET]!s}-{depth}"
        cache = FeatureCache(folder, task.settings.cache_mb * 1_000_000)
    return FrozenFeatures(model, frozen.depth, cache)


def training_seed(task: Task) -> int:
    """Return a seed that differs between nodes and rounds, and repeats when the run is repeated."""
    return zlib.crc32(f"{task.settings.seed} {task.node_name} {task.server_round}".encode())


Metrics = dict[str, int | float | list[int] | list[float]]


def training_metrics(speech: Recordings, losses: list[float]) -> Metrics:
    """Return the metrics of the speech that was trained on, and its loss per exit."""
    return {
        NUM_EXAMPLES: len(speech.to_train),
        SECONDS: sum(utterance.seconds for utterance in speech.to_train),
        SKIPPED: speech.skipped,
        TRAIN_LOSS: losses,
        PEAK_MEMORY: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # bytes
    }


def held_out_metrics(scores: list[ExitScore], num_exits: int) -> Metrics:
    """Return the metrics of the received model on held-out speech.

    A client without such speech has counted 0 words: Flower's strategies want the same metrics of
    every client.
    """
    scores = scores or [ExitScore(0.0, 0, 0, 0, 0)] * num_exits
    return {
        LOSS: [exit.loss for exit in scores],
        WORD_ERRORS: [exit.word_errors for exit in scores],
        CHARACTER_ERRORS: [exit.character_errors for exit in scores],
        WORDS: scores[0].words,
        CHARACTERS: scores[0].characters,
    }
