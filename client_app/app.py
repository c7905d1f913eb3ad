"""The ClientApp: what a node does with a query, a training message and an evaluation.

On a device each message starts a new process. Training and evaluation need torch and transformers:
they are imported with ``client_app.round``, ``.calibration`` and ``.personal``: never for a query,
nor for a message that is refused.
"""

from functools import partial, wraps

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod.utils import make_ffn
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod

from client_app.capacity.guard import guard_capacity
from client_app.capacity.own import CapacityError, node_capacity
from client_app.mods import frozen_tensors, privacy, wire_format
from client_app.secure import STAGES, answering, masked
from client_app.task import Task
from efmodel.light_imports import skip_compiler_and_sharding
from efmodel.protocol import (
    CAPACITY,
    CONFIG,
    NAME,
    PERSONAL,
    PROTOCOL,
    PROTOCOL_KEY,
    TAG,
    Refusal,
)

app = ClientApp()
for stage, answer in STAGES.items():  # of secure aggregation, beside the training
    app.query(stage)(answering(answer))


def checked(action: ClientAppCallable) -> ClientAppCallable:
    """Let an action refuse a message of another protocol, or one above this node's capacity."""

    @wraps(action)
    def answer(message: Message, context: Context) -> Message:
        if reason := protocol_mismatch(message):
            return refuse(message, Refusal.PROTOCOL, reason)
        try:
            return action(message, context)
        except CapacityError as error:
            return refuse(message, Refusal.CAPACITY, str(error))

    return answer


@app.query()
@checked
def query(message: Message, context: Context) -> Message:
    """Answer with this node's capacity, its name, its tag, and what is counted of its texts."""
    task = Task.of(message, context)
    answer = ConfigRecord({PROTOCOL_KEY: PROTOCOL, CAPACITY: node_capacity(task)})
    node = task.node_config
    answer.update({key: str(node[key]) for key in (NAME, TAG) if key in node})
    if task.partition:
        answer[NAME] = f"partition {task.node_name}"
    from client_app.texts import counted  # datasets takes a second to import

    answer.update(counted(task))
    return Message(RecordDict({CONFIG: answer}), reply_to=message)


@app.train()
@checked
def train(message: Message, context: Context) -> Message:
    """Train the model that the message holds, and reply with the trained tensors and metrics."""
    task = Task.of(message, context)
    if not task.settings.compile:
        skip_compiler_and_sharding()
    from client_app.round import train_round

    mods: list[Mod] = [  # from the outside in
        partial(guard_capacity, task),
        wire_format,  # decodes first and encodes last: the two below see float32
        partial(frozen_tensors, task),  # leaves the tensors that the reply will hold
        partial(privacy, task),  # wants equal tensors in message and reply
    ]
    if task.settings.secure_aggregation:
        mods.insert(-1, partial(masked, task))
    return make_ffn(partial(train_round, task), mods)(message, context)


@app.evaluate()
@checked
def evaluate(message: Message, context: Context) -> Message:
    """Count how sure and how wrong each exit of the message's model is on held-out speech."""
    skip_compiler_and_sharding()
    from client_app.calibration import count

    return count(Task.of(message, context), message)


@app.evaluate(PERSONAL)
@checked
def personal(message: Message, context: Context) -> Message:
    """Count what the message's model gets wrong, and what its personal version does."""
    skip_compiler_and_sharding()
    from client_app.personal import personalise

    return personalise(Task.of(message, context), message)


def protocol_mismatch(message: Message) -> str:
    """Return why server and node cannot understand each other; empty if they can."""
    # A server of version 0.1.0 sends no number.
    server = message.content.config_records[CONFIG].get(PROTOCOL_KEY, 1)
    if server == PROTOCOL:
        return ""
    return (
        f"protocol: found {server!s} on the server, wanted {PROTOCOL} as on this node: install the "
        "same version of ef-asr on both, then restart the SuperNode"
    )


def refuse(message: Message, code: Refusal, reason: str) -> Message:
    """Return the error reply to a request that this node cannot fulfil."""
    return Message(Error(code=int(code), reason=reason), reply_to=message)
