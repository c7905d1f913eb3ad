"""The ClientApp: what a node does with a query and with a round of training."""

import resource
import time
import zlib

import torch
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from client_app.capacity import capacity
from client_app.mods import privacy, wire_format
from client_app.recordings import recordings
from client_app.training import train
from efmodel.config import EarlyExitConfig
from efmodel.evaluation import score
from efmodel.model import EarlyExitForCTC
from efmodel.payload import blueprint
from efmodel.precision import autocast
from efmodel.settings import Settings

app = ClientApp(mods=[wire_format, privacy])


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer the server's first question: how deep can this node train, and what is its name."""
    settings = Settings.from_run_config(context.run_config)
    config, _ = blueprint(message.content["config"])
    answer = ConfigRecord({"capacity": capacity(context, settings, config.num_exits)})
    if "tag" in context.node_config:
        answer["tag"] = str(context.node_config["tag"])
    if "partition-id" in context.node_config:
        answer["name"] = f"partition {context.node_config['partition-id']}"
    return Message(RecordDict({"config": answer}), reply_to=message)


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Test the model received on the held-out utterances, train it, send back what was trained."""
    began = time.monotonic()
    settings = Settings.from_run_config(context.run_config)
    request = message.content["config"]
    config, tokenizer = blueprint(request)
    train_on, held_out, skipped = recordings(context, settings, config, tokenizer)

    model = EarlyExitForCTC(config.cut(_asked_capacity(request, context, settings, config)))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    model.to("cuda" if torch.cuda.is_available() else "cpu")

    with autocast(model.device, settings.precision):
        scores = score(model, held_out, tokenizer, settings.batch_seconds)
    server_round = int(request["server-round"])
    seed = _seed(context, settings, server_round)
    # Flower's FedProx sends its own mu.
    mu = float(request.get("proximal-mu", settings.proximal_mu))
    losses = train(model, train_on, settings, server_round, seed, mu)
    metrics = MetricRecord(
        {
            "num-examples": len(train_on),
            "seconds": sum(utterance.seconds for utterance in train_on),
            "skipped": skipped,
            "train-loss": losses,
            "wall-seconds": time.monotonic() - began,
            "peak-memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # bytes
        }
    )
    if scores:
        metrics["loss"] = [exit.loss for exit in scores]
        metrics["word-errors"] = [exit.word_errors for exit in scores]
        metrics["character-errors"] = [exit.character_errors for exit in scores]
        metrics["words"] = scores[0].words
        metrics["characters"] = scores[0].characters
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def _asked_capacity(
    request: ConfigRecord, context: Context, settings: Settings, config: EarlyExitConfig
) -> int:
    """Return the depth of the model in the message; a strategy that is not partial sends it all.

    Raises
    ------
    ValueError
        If that is deeper than this node can train.
    """
    own = capacity(context, settings, config.num_exits)
    asked = int(request.get("capacity", config.num_exits))
    if asked > own:
        raise ValueError(
            f"capacity: found a message that wants {asked}, this node can train {own}; "
            "strategies that send whole models want capacities=full"
        )
    return asked


def _seed(context: Context, settings: Settings, server_round: int) -> int:
    """Return a seed of its own for each node and round, the same whenever the run is repeated."""
    node = context.node_config.get("partition-id", context.node_id)
    return zlib.crc32(f"{settings.seed} {node} {server_round}".encode())
