"""The bytes of a round's messages, down and up, against full models in float32.

The strategy that a run would build sends a preset's tensors to two clients at each exit, and their
replies pass through the mods of the client app. Only the training is left out: it changes the
values of the tensors, not their sizes.
"""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from rich.progress import track

from client_app.mods import wire_format
from efmodel.config import preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import parse
from efmodel.protocol import CAPACITY
from efmodel.settings import Settings
from efmodel.speech import vocabulary
from efmodel.wire import WIRE_DTYPES
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.registry import build
from simulation.bench.figure import Figure
from simulation.in_process_grid import LocalGrid

PRESETS = ("tiny", "paper")
CASES = [(wire_dtype, "") for wire_dtype in WIRE_DTYPES] + [("float32", "frontend")]
PER_EXIT = 2  # clients at each exit
TIMEOUT = 600.0  # seconds for a round, which takes less than one


def model_of(name: str) -> EarlyExitForCTC:
    """Return the preset's model with random weights, as a run starts from it."""
    tokenizer = vocabulary.of_preset(name)
    config = preset(name, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    return EarlyExitForCTC(config)


def second_round(model: EarlyExitForCTC, wire_dtype: str, freeze: str) -> Traffic:
    """Return the bytes of a round in which the nodes hold the frozen tensors already."""
    exits = model.config.num_exits
    nodes = range(PER_EXIT * exits)
    owners = model.owner_exits()
    frozen = parse(freeze, "all", model.config.num_hidden_layers)
    settings = Settings(wire_dtype=wire_dtype, min_train_nodes=len(nodes))
    strategy = build(settings, owners, {name for name in owners if frozen.holds(name)})
    client = ClientApp(mods=[wire_format])
    contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in nodes}

    @client.query()
    def query(message: Message, context: Context) -> Message:
        capacity = ConfigRecord({CAPACITY: 1 + context.node_id % exits})
        return Message(RecordDict({"config": capacity}), reply_to=message)

    @client.train()
    def train(message: Message, context: Context) -> Message:
        received = message.content["arrays"].items()
        arrays = ArrayRecord({name: array for name, array in received if not frozen.holds(name)})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    def play(message: Message) -> Message:
        return client(message, contexts[message.metadata.dst_node_id])

    arrays, grid = ArrayRecord(model.state_dict()), LocalGrid(play, nodes)
    for server_round in (1, 2):
        traffic = Traffic()
        messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
        new, _ = strategy.aggregate_train(server_round, exchange(grid, messages, TIMEOUT, traffic))
        assert new is not None and traffic.answered == len(nodes)
        grid.sent.clear()
    return traffic


def run(presets: tuple[str, ...] = PRESETS) -> list[Figure]:
    """Measure each preset with each wire type, and with its front end frozen."""
    figures = []
    for name in presets:
        model = model_of(name)
        model_bytes = sum(len(array.data) for array in ArrayRecord(model.state_dict()).values())
        full = 2 * PER_EXIT * model.config.num_exits * model_bytes / 1e6
        for wire_dtype, freeze in track(CASES, f"bytes: {name}", transient=True):
            traffic = second_round(model, wire_dtype, freeze)
            what = f"{name}, bytes of a round, uniform capacities, {wire_dtype}"
            what += f", freeze={freeze}" if freeze else ""
            megabytes = (traffic.down + traffic.up) / 1e6
            figures.append(Figure(what, megabytes, full, "MB", "full models in float32"))
    return figures
