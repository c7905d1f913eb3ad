"""Flower mods around the training: wire format, frozen tensors, clipping and noise.

A mod changes the message on its way in and the reply on its way out. ``client_app.app`` lists them
in order. Those that need the task take it as their first argument.
"""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from client_app.cache import frozen as frozen_cache
from client_app.task import Task
from efmodel import wire
from efmodel.protocol import CONFIG, FROZEN_SET, SCALES, WIRE_DTYPE

RESIDUAL = "residual"  # record of the node's state: rounding errors of int8, not sent yet


def wire_format(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Decode float16 to float32, and encode the reply in the message's ``wire-dtype``."""
    wire_dtype = _wire_dtype(message)
    if wire_dtype == "float32":
        return call_next(message, context)
    key, sent = next(iter(message.content.array_records.items()))
    start = wire.received(sent)
    message.content[key] = start
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    key, trained = next(iter(reply.content.array_records.items()))
    kept = context.state.array_records.get(RESIDUAL, ArrayRecord())
    residual = {name: array.numpy() for name, array in kept.items()}
    arrays, scales, residual = wire.encode(trained, start, wire_dtype, residual)
    reply.content[key] = arrays
    reply.content[SCALES] = ConfigRecord(dict(scales))
    if residual:
        context.state[RESIDUAL] = ArrayRecord({name: Array(a) for name, a in residual.items()})
    return reply


def _wire_dtype(message: Message) -> str:
    if message.metadata.message_type != MessageType.TRAIN:
        return "float32"
    request = next(iter(message.content.config_records.values()), ConfigRecord())
    return str(request.get(WIRE_DTYPE, "float32"))


def frozen_tensors(
    task: Task, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Move frozen tensors from the message to this node's disk.

    The server sends them once. What stays in the message is what the reply will hold.
    """
    if FROZEN_SET not in task.request:
        return call_next(message, context)
    from efmodel.model.frozen import parse  # imports torch

    settings = task.settings
    frozen = parse(settings.freeze, settings.train, task.model_sizes["num_hidden_layers"])
    key, sent = next(iter(message.content.array_records.items()))
    to_keep = ArrayRecord({name: array for name, array in sent.items() if frozen.holds(name)})
    if to_keep:
        frozen_cache.keep(str(task.request[FROZEN_SET]), to_keep)
        message.content[key] = ArrayRecord({n: a for n, a in sent.items() if n not in to_keep})
    return call_next(message, context)


def privacy(
    task: Task, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Clip the client's change to ``local-clip-norm``, and add noise for ``local-epsilon``."""
    settings = task.settings
    clip = settings.local_clip_norm
    if not clip:
        return call_next(message, context)
    if not settings.local_epsilon:
        message.content.config_records[CONFIG][KEY_CLIPPING_NORM] = clip
        return fixedclipping_mod(message, context, call_next)
    # Two clipped changes are at most 2 clip apart: the sensitivity of sending one of them.
    mod = LocalDpMod(clip, 2 * clip, settings.local_epsilon, settings.local_delta)
    return mod(message, context, call_next)
