"""The ClientApp: what a node does with each kind of message.

Each message may find a new process on a device: what only training needs (torch, transformers) is
imported when there is something to train.
"""

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app.capacity import store
from client_app.capacity.memory import is_out_of_memory
from client_app.capacity.own import (
    CapacityError,
    capacity,
    fall_back,
    is_simulated,
    name_of,
    own_budgets,
)
from efmodel.protocol import (
    CAPACITY,
    MODEL_CONFIG,
    NAME,
    PROTOCOL,
    PROTOCOL_KEY,
    TAG,
    Refusal,
)
from efmodel.settings import Settings

SLACK = 1.5  # a round also reads, decodes and tests: what it may take beside its training steps

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer the server's first question: how deep can this node train, and what is its name."""
    request = message.content["config"]
    if request[PROTOCOL_KEY] != PROTOCOL:
        reason = (
            f"protocol: found {request[PROTOCOL_KEY]} on the server, wanted {PROTOCOL} as on this "
            "node: install the same version of ef-asr on both, and start the SuperNode again"
        )
        return refused(message, Refusal.PROTOCOL, reason)
    settings = Settings.from_run_config(context.run_config)
    try:
        own = capacity(context, settings, str(request[MODEL_CONFIG]))
    except CapacityError as error:
        return refused(message, Refusal.CAPACITY, str(error))
    answer = ConfigRecord({PROTOCOL_KEY: PROTOCOL, CAPACITY: own})
    node = context.node_config
    answer.update({key: str(node[key]) for key in (NAME, TAG) if key in node})
    if "partition-id" in node:
        answer[NAME] = f"partition {node['partition-id']}"
    return Message(RecordDict({"config": answer}), reply_to=message)


def refused(message: Message, code: Refusal, reason: str) -> Message:
    """Return the error reply of a node that cannot do what it was asked for."""
    return Message(Error(code=int(code), reason=reason), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train; a device for which that was too much trains an exit less from the next round on."""
    from client_app import round as client_round

    if is_simulated(context):
        return client_round.app(message, context)
    settings = own_budgets(context.node_config, Settings.from_run_config(context.run_config))
    request = next(iter(message.content.config_records.values()))
    model_config = str(request[MODEL_CONFIG])
    node = (context, settings, model_config)
    own = capacity(
        *node
    )  # takes in a mark that the last round left, before this one leaves its own
    asked = int(request.get(CAPACITY, own))
    try:
        with store.training(name_of(*node)):
            reply = client_round.app(message, context)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        why = f"exit {asked} ran out of memory in a round"
        lowered = f"capacity: now {fall_back(*node, asked, why)}, {why}"
        return refused(message, Refusal.CAPACITY, lowered)
    if why := too_slow(reply, settings):
        reply.content["metrics"][CAPACITY] = fall_back(*node, asked, why)
    return reply


def too_slow(reply: Message, settings: Settings) -> str:
    """Return why the round took longer than it may, or nothing."""
    metrics = reply.content["metrics"]
    taken = float(metrics["wall-seconds"])
    if taken > settings.round_timeout:
        return f"a round took {taken:.0f} s, round-timeout is {settings.round_timeout:g}"
    each = taken / (float(metrics["seconds"]) * settings.local_epochs)
    if 0 < SLACK * settings.seconds_per_audio_second < each:
        allowed = f"{settings.seconds_per_audio_second:g} s and half as much again"
        return f"a round took {each:.3g} s per second of audio, wanted {allowed} at most"
    return ""
