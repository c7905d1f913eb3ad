"""What happens to tensors between the network and the training: coding, clipping, noise.

Flower's mods wrap the client app from the outside in: ``wire_format`` first, so that ``privacy``
sees the values that training sees, and what leaves has been clipped before it is coded. Behind
``frozen_tensors`` a message holds exactly what is sent back, which ``privacy`` demands.
"""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from client_app.cache import frozen as frozen_cache
from efmodel import protocol, wire
from efmodel.model.frozen import parse
from efmodel.protocol import FROZEN_SET, read_model
from efmodel.settings import Settings

RESIDUAL = "residual"  # in the node's own state: what int8 rounding has not sent yet


def wire_format(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Read float16 as float32, and send back what the message's ``wire-dtype`` asks for."""
    kind = _wire_dtype(message)
    if kind == "float32":
        return call_next(message, context)
    key, sent = next(iter(message.content.array_records.items()))
    start = wire.received(sent)
    message.content[key] = start
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    key, trained = next(iter(reply.content.array_records.items()))
    left = context.state.array_records.get(RESIDUAL, ArrayRecord())
    residual = {name: array.numpy() for name, array in left.items()}
    arrays, scales, residual = wire.encode(trained, start, kind, residual)
    reply.content[key] = arrays
    reply.content[protocol.SCALES] = ConfigRecord(dict(scales))
    if residual:
        kept = {name: Array(array) for name, array in residual.items()}
        context.state[RESIDUAL] = ArrayRecord(kept)
    return reply


def frozen_tensors(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Keep the frozen tensors of a message on disk; what goes on is what will be sent back."""
    request = next(iter(message.content.config_records.values()), ConfigRecord())
    if message.metadata.message_type != MessageType.TRAIN or FROZEN_SET not in request:
        return call_next(message, context)
    settings = Settings.from_run_config(context.run_config)
    config, _ = read_model(request)
    frozen = parse(settings.freeze, settings.train, config.num_hidden_layers)
    key, sent = next(iter(message.content.array_records.items()))
    held = ArrayRecord({name: array for name, array in sent.items() if frozen.holds(name)})
    if held:
        frozen_cache.keep(str(request[FROZEN_SET]), held)
        message.content[key] = ArrayRecord({n: a for n, a in sent.items() if n not in held})
    return call_next(message, context)


def privacy(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Shorten the client's change to ``local-clip-norm``, and hide it in noise."""
    settings = Settings.from_run_config(context.run_config)
    clip = settings.local_clip_norm
    if message.metadata.message_type != MessageType.TRAIN or not clip:
        return call_next(message, context)
    if not settings.local_epsilon:
        message.content["config"][KEY_CLIPPING_NORM] = clip
        return fixedclipping_mod(message, context, call_next)
    # Two clipped changes are at most 2 clip apart: the sensitivity of sending one of them.
    mod = LocalDpMod(clip, 2 * clip, settings.local_epsilon, settings.local_delta)
    return mod(message, context, call_next)


def _wire_dtype(message: Message) -> str:
    if message.metadata.message_type != MessageType.TRAIN:
        return "float32"
    record = next(iter(message.content.config_records.values()), ConfigRecord())
    return str(record.get(protocol.WIRE_DTYPE, "float32"))
