"""Counting for the calibration of adaptive exits: no speech and no text leaves the node."""

from flwr.app import Message, MetricRecord, RecordDict

from client_app.recordings import recordings
from client_app.round import checked_capacity, cut_model
from client_app.task import Task
from efmodel.decoding.observing import observe
from efmodel.decoding.policy import SCORES
from efmodel.model.stages import Engine
from efmodel.protocol import HISTOGRAM, METRICS, NUM_EXAMPLES, read_model


def count(task: Task, message: Message) -> Message:
    """Reply with a histogram for each score: utterances and word errors by certainty.

    They are counted on the node's held-out speech. Histograms of several nodes are added.

    Raises
    ------
    CapacityError
        If the message holds a deeper model than this node can train.
    DataError
        If the node's recordings are missing or none can be used.
    """
    config, tokenizer = read_model(task.request)
    model = cut_model(task, message, config.cut(checked_capacity(task))).eval()
    speech = recordings(task, config, tokenizer)
    seconds = task.settings.batch_seconds
    seen = observe(Engine(model), tokenizer, speech.held_out, list(SCORES), seconds)
    metrics: dict[str, int | list[int]] = {NUM_EXAMPLES: len(seen.words)}
    for name in SCORES:
        metrics[HISTOGRAM + name] = seen.histogram(name).flatten().tolist()
    return Message(RecordDict({METRICS: MetricRecord(dict(metrics))}), reply_to=message)
