"""The ServerApp: read the run config, wire the parts, start the rounds."""

from logging import ERROR, INFO, WARNING

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.evaluation import ExitScore, score
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import parse
from efmodel.model.loading import starting_model
from efmodel.model.lora import merged
from efmodel.model.precision import autocast
from efmodel.protocol import describe_model
from efmodel.settings import Settings, SettingsError
from efmodel.speech import corpus, recordings
from efmodel.speech.utterances import SECONDS, Utterance, prepare
from server_app import run_log
from server_app.checkpoint import Checkpoints
from server_app.results.compute import multiply_adds
from server_app.results.plots import plot_error_rates
from server_app.results.report import write_report
from server_app.results.versions import versions
from server_app.rounds import Rounds
from server_app.run_folder import FAILED, FINISHED, RunFolder, read_metrics
from server_app.strategy import PartialFedAvg
from server_app.strategy.cohort import Nodes
from server_app.strategy.registry import build

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation, and say how it ended."""
    try:
        folder = federate(grid, context)
    except Exception as error:
        log(ERROR, FAILED + "%s", error)
        raise
    log(INFO, FINISHED + "%s", folder.path)


def federate(grid: Grid, context: Context) -> RunFolder:
    """Run one federation from the first model to the last; return where its results are."""
    settings = Settings.from_run_config(context.run_config)
    torch.manual_seed(settings.seed)
    model, tokenizer = starting_model(settings)
    held_out = test_utterances(settings, model, tokenizer)
    frozen = parse(settings.freeze, settings.train, model.config.num_hidden_layers)
    owners = model.owner_exits()
    strategy = build(settings, owners, {name for name in owners if frozen.holds(name)})
    resume, output = settings.resume, settings.output
    folder = RunFolder.open(resume) if resume else RunFolder.create(output)
    log(INFO, "run folder: %s", folder.path)
    checkpoints = Checkpoints(folder.checkpoints)
    start, after = ArrayRecord(model.state_dict()), 0
    if settings.resume:
        start, after = resumed(checkpoints, settings, strategy, start)
        folder.forget_after(after)
    folder.write_config(context.run_config)
    folder.add_versions(versions())

    def evaluate(arrays: ArrayRecord) -> list[ExitScore]:
        model.load_state_dict(arrays.to_torch_state_dict())
        # A strategy may score other models than the whole one, and other than at its exits.
        models = getattr(strategy, "models_to_score", lambda model: [model])(model)
        with autocast(model.device, settings.precision):
            scores = (score(m, held_out, tokenizer, settings.batch_seconds) for m in models)
            return [exit for each in scores for exit in each]

    strategy.summary()
    request = describe_model(model.config, tokenizer)
    if not isinstance(strategy, PartialFedAvg):
        demand_full_depth(grid, request, model.config.num_exits, settings)
    rounds = Rounds(
        grid=grid,
        strategy=strategy,
        settings=settings,
        folder=folder,
        checkpoints=checkpoints,
        evaluate=evaluate,
        request=request,
        num_exits=model.config.num_exits,
        costs=client_costs(strategy, model.config),
    )
    with run_log.written_to(folder.log):
        arrays = rounds.run(start, after)

    model.load_state_dict(arrays.to_torch_state_dict())
    merged(model).save_pretrained(folder.model)
    tokenizer.save_pretrained(folder.model)
    title = f"{settings.model}, {settings.strategy}, {settings.data} {settings.data_path}".strip()
    plot_error_rates(read_metrics(folder.metrics), folder.plot, title)
    write_report(folder.path)
    return folder


def resumed(
    checkpoints: Checkpoints, settings: Settings, strategy: Strategy, start: ArrayRecord
) -> tuple[ArrayRecord, int]:
    """Bring the strategy back to where a run stopped; return its model and its last round.

    Raises
    ------
    SettingsError
        If no checkpoint is whole, or the last one is of another model or strategy.
    """
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        if checkpoints.paths():
            raise SettingsError(f"resume: found no whole checkpoint in {checkpoints.folder}")
        log(WARNING, "resume: no round was finished, starting at round 1")
        return start, 0
    found = {name: array.shape for name, array in checkpoint.arrays.items()}
    if found != {name: tuple(array.shape) for name, array in start.items()}:
        raise SettingsError(f"resume: found a checkpoint of another model, wanted {settings.model}")
    if checkpoint.strategy != settings.strategy:
        wanted = f"wanted {settings.strategy}"
        raise SettingsError(f"resume: found a checkpoint of {checkpoint.strategy}, {wanted}")
    if isinstance(strategy, PartialFedAvg):
        strategy.moments = checkpoint.moments
        strategy.nodes.met = {node.id: node for node in checkpoint.nodes}
    else:
        log(WARNING, "resume: what %s remembers is not kept, it starts afresh", settings.strategy)
    log(INFO, "resuming after round %d", checkpoint.round)
    arrays = {name: Array(checkpoint.arrays[name]) for name in start}  # in the model's order
    return ArrayRecord(arrays), checkpoint.round


def client_costs(strategy: Strategy, config: EarlyExitConfig) -> list[float]:
    """Return what a client of each capacity trains, in multiply-adds per second of audio.

    The model cut at its exit, or what the strategy's ``client_models`` say.
    """
    if not hasattr(strategy, "client_models"):
        return multiply_adds(config)
    return [multiply_adds(model)[-1] for model in strategy.client_models(config)]


def demand_full_depth(
    grid: Grid, request: ConfigRecord, num_exits: int, settings: Settings
) -> None:
    """Make sure that a strategy which sends whole models meets only nodes that can train them.

    Raises
    ------
    SettingsError
        Naming the nodes that cannot.
    """
    nodes = Nodes(num_exits, settings.round_timeout, lambda node: True)
    ready, _ = nodes.gather(grid, settings.min_nodes, request)
    weak = [
        f"{node.name} (capacity {node.capacity})" for node in ready if node.capacity < num_exits
    ]
    if weak:
        raise SettingsError(
            f"strategy: {settings.strategy} sends whole models, but found {len(weak)} nodes that "
            f"cannot train one: {', '.join(weak[:3])} ...; wanted capacity {num_exits} on every "
            "node (capacities=full), or a partial strategy"
        )


def test_utterances(
    settings: Settings, model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase
) -> list[Utterance]:
    """Return what the server tests on: the corpus's test half, if there is one."""
    if settings.data == "audiofolder" and not settings.data_path:
        log(WARNING, "data-path is empty: no central evaluation, clients test on their own speech")
        return []
    limits = recordings.Limits.of(settings)
    test = corpus.load(settings.data, settings.data_path, limits).test
    if test is None:
        log(WARNING, "the data has no test half: no central evaluation")
        return []
    seconds = (SECONDS[0], settings.max_seconds)
    utterances, skipped = prepare(test, tokenizer, model.config, to_train=False, seconds=seconds)
    skipped.log("test")
    log(INFO, "central evaluation on %d utterances", len(utterances))
    return utterances
