"""What a node does with a round of training."""

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

from client_app.cache import frozen as frozen_cache
from client_app.cache.features import FeatureCache, FrozenFeatures
from client_app.cache.folder import cache_folder
from client_app.capacity.own import capacity
from client_app.mods import frozen_tensors, privacy, wire_format
from client_app.recordings import recordings
from client_app.training import train
from efmodel.config import EarlyExitConfig
from efmodel.evaluation import score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import NOTHING, Frozen, parse
from efmodel.model.precision import autocast
from efmodel.protocol import FROZEN_SET, MODEL_CONFIG, read_model
from efmodel.settings import Settings
from efmodel.speech.utterances import Inputs, collate

app = ClientApp(mods=[wire_format, frozen_tensors, privacy])


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Test the model received on the held-out utterances, train it, send back what was trained."""
    began = time.monotonic()
    settings = Settings.from_run_config(context.run_config)
    request = message.content["config"]
    config, tokenizer = read_model(request)
    train_on, held_out, skipped = recordings(context, settings, config, tokenizer)

    model = EarlyExitForCTC(config.cut(_asked_capacity(request, context, settings, config)))
    tensors = message.content["arrays"].to_torch_state_dict()
    if FROZEN_SET in request:
        tensors |= frozen_cache.load(str(request[FROZEN_SET]))
    model.load_state_dict(tensors)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    frozen = parse(settings.freeze, settings.train, config.num_hidden_layers)
    frozen.keep(model)
    inputs = _inputs(model, frozen, request, settings)

    with autocast(model.device, settings.precision):
        scores = score(model, held_out, tokenizer, settings.batch_seconds, inputs)
    server_round = int(request["server-round"])
    seed = _seed(context, settings, server_round)
    # Flower's FedProx sends its own mu.
    mu = float(request.get("proximal-mu", settings.proximal_mu))
    losses = train(model, train_on, settings, server_round, seed, mu, inputs)
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
    arrays = ArrayRecord({n: t for n, t in model.state_dict().items() if not frozen.holds(n)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def _inputs(
    model: EarlyExitForCTC, frozen: Frozen, request: ConfigRecord, settings: Settings
) -> Inputs:
    """Return what makes utterances a batch: of samples, or of what the frozen part gives."""
    if frozen.depth == NOTHING:
        return collate
    cache = None
    if settings.cache_mb:
        depth = min(frozen.depth, model.config.num_hidden_layers)
        folder = cache_folder() / "features" / f"{request[FROZEN_SET]}-{depth}"
        cache = FeatureCache(folder, settings.cache_mb * 1_000_000)
    return FrozenFeatures(model, frozen.depth, cache)


def _asked_capacity(
    request: ConfigRecord, context: Context, settings: Settings, config: EarlyExitConfig
) -> int:
    """Return the depth of the model in the message; a strategy that is not partial sends it all.

    Raises
    ------
    ValueError
        If that is deeper than this node can train.
    """
    asked = int(request.get("capacity", config.num_exits))
    if asked == 1:  # every node can; a model of another shape may have no other exit
        return asked
    own = capacity(context, settings, str(request[MODEL_CONFIG]))
    if asked > own:
        raise ValueError(
            f"capacity: found a message that wants {asked}, this node can train {own}; "
            "strategies that send whole models want capacities=full"
        )
    return asked


def _seed(context: Context, settings: Settings, server_round: int) -> int:
    """Return a seed of its own for each node and round, the same whenever the run is repeated."""
    named = context.node_config
    node = named.get("partition-id", named.get("name", context.node_id))
    return zlib.crc32(f"{settings.seed} {node} {server_round}".encode())
