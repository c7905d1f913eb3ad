"""Lower a device's capacity after a round that took too much memory or time."""

from typing import cast

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from client_app.capacity import store
from client_app.capacity.memory import is_out_of_memory
from client_app.capacity.own import CapacityError, cache_key, is_simulated, lower, node_capacity
from client_app.task import Task
from efmodel.protocol import CAPACITY, METRICS, SECONDS, WALL_SECONDS
from efmodel.settings import Settings

# A round also reads, decodes and evaluates: it may take this many times its training steps' time.
SLACK = 1.5


def guard_capacity(
    task: Task, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Train; if the round was too much for this device, it trains one exit less from now on.

    A Flower mod, once ``task`` is bound. The server learns of a lower capacity from the reply's
    metrics, or from the error reply. A simulated node's capacity never changes.

    Raises
    ------
    CapacityError
        If the round ran out of memory, or not even exit 1 fits on this device.
    """
    if is_simulated(task):
        return call_next(message, context)
    node_capacity(task)  # reads the previous round's mark, before this round sets its own
    try:
        with store.training(cache_key(task)):
            reply = call_next(message, context)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        why = f"exit {task.requested_capacity} ran out of memory in a round"
        raise CapacityError(f"capacity: now {lower(task, why)}, {why}") from error
    if not reply.has_error() and (why := too_slow(reply, task.settings)):
        reply.content.metric_records[METRICS][CAPACITY] = lower(task, why)
    return reply


def too_slow(reply: Message, settings: Settings) -> str:
    """Return why the round took longer than it may; empty if it did not."""
    metrics = reply.content.metric_records[METRICS]
    wall_seconds, audio_seconds = cast(float, metrics[WALL_SECONDS]), cast(float, metrics[SECONDS])
    if wall_seconds > settings.round_timeout:
        return f"a round took {wall_seconds:.0f} s, round-timeout is {settings.round_timeout:g}"
    per_audio_second = wall_seconds / (audio_seconds * settings.local_epochs)
    if 0 < SLACK * settings.seconds_per_audio_second < per_audio_second:
        return (
            f"a round took {per_audio_second:.3g} s per second of audio, wanted at most {SLACK:g} "
            f"times seconds-per-audio-second = {settings.seconds_per_audio_second:g}"
        )
    return ""
