"""One federation from its first model to its last: the parts of a run, put together."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from logging import INFO, WARNING
from typing import Any

import torch
from flwr.app import ArrayRecord, Context
from flwr.common import log
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid
from transformers import PreTrainedTokenizerBase

from efmodel.config import EarlyExitConfig
from efmodel.decoding.observing import adaptive_score
from efmodel.evaluation import BATCH_SECONDS
from efmodel.light_imports import bring_back_compiler
from efmodel.model.compute import multiply_adds
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import parse
from efmodel.model.loading import starting_model
from efmodel.model.lora import merged
from efmodel.protocol import describe_model
from efmodel.settings import Settings
from server_app import run_lock, run_log
from server_app.background import SpareCores
from server_app.calibration import calibrate
from server_app.checkpoint import Checkpoints, resumed
from server_app.evaluation import CentralEvaluation, test_utterances
from server_app.personal import personalise
from server_app.privacy import Privacy
from server_app.results.versions import versions
from server_app.rounds import Rounds
from server_app.run_folder import RunFolder, read_metrics
from server_app.strategy.base import RunStrategy
from server_app.strategy.exchange import simulated_cores
from server_app.strategy.registry import build
from server_app.survey import Survey
from server_app.trackers import tracking
from server_app.vocabulary import settle


def federate(grid: Grid, context: Context) -> RunFolder:
    """Run one federation from the first model to the last; return the folder of its results."""
    settings = Settings.from_run_config(context.run_config)
    privacy, settings = planned_privacy(settings)
    torch.manual_seed(settings.seed)
    model, tokenizer = starting_model(settings)
    frozen = parse(settings.freeze, settings.train, model.config.num_hidden_layers)
    owners = model.owner_exits()
    strategy = build(settings, owners, {name for name in owners if frozen.holds(name)})
    resume, output = settings.resume, settings.output
    folder = RunFolder.open(resume) if resume else RunFolder.create(output)
    config = context.run_config
    with (
        run_lock.held(folder.path),
        run_log.written_to(folder.log),
        tracking(settings.tracker, folder, config) as track,
    ):
        log(INFO, "run folder: %s", folder.path)
        changes = folder.changes(config) if resume else {}
        if not resume:  # it may take long until enough nodes are there
            folder.write_config(config)
        folder.add_versions(versions())
        nodes = strategy.nodes
        model, tokenizer = settle(grid, nodes, settings, folder, changes, (model, tokenizer))
        test_set = test_utterances(settings, model, tokenizer)
        checkpoints = Checkpoints(folder.checkpoints)
        start, after = ArrayRecord(model.state_dict()), 0
        if resume:
            start, after = resumed(checkpoints, settings, strategy, start)
            folder.forget_after(after)
            write_config(folder, config, after)
        strategy.summary()
        request = describe_model(model.config, tokenizer)
        strategy.check_nodes(grid, request)
        if nodes.to_ask:  # what the vocabulary loses of their texts is logged before round 1
            nodes.gather(grid, settings.min_nodes, request)
        cores = SpareCores(simulated_cores() if isinstance(grid, InMemoryGrid) else 0)
        privacy.log_plan(settings.rounds - after, len(nodes.met))
        rounds = Rounds(
            grid=grid,
            strategy=strategy,
            settings=settings,
            folder=folder,
            checkpoints=checkpoints,
            evaluate=CentralEvaluation(model, tokenizer, test_set, strategy, settings, cores),
            cores=cores,
            track=track,
            request=request,
            num_exits=model.config.num_exits,
            count_costs=partial(client_costs, strategy, model.config),
            privacy=privacy,
        )
        arrays = rounds.run(start, after)
        privacy.log_spent()
        model.to("cpu")  # it was scored on a GPU where there is one
        model.load_state_dict(arrays.to_torch_state_dict())
        survey = Survey(grid, list(nodes.met.values()), settings, request, model)
        ask_clients(survey, strategy, folder)
        if model.config.exit_thresholds and test_set:
            score = adaptive_score(model.eval(), tokenizer, test_set, BATCH_SECONDS)
            folder.write_adaptive(score)
        write_results(folder, settings, model, tokenizer)
    return folder


def planned_privacy(settings: Settings) -> tuple[Privacy, Settings]:
    """Return a run's guarantees, and the run config with the noise and the rounds they allow.

    A resumed run goes on from what it has spent.
    """
    spent, after = {}, 0
    if settings.resume:
        folder = RunFolder.open(settings.resume)
        spent = folder.read_privacy()
        if spent or settings.has_noise:
            checkpoint = Checkpoints(folder.checkpoints).latest()
            after = checkpoint.round if checkpoint else 0
    privacy = Privacy.of(settings, spent, after)
    return privacy, privacy.applied_to(settings, after)


def ask_clients(survey: Survey, strategy: RunStrategy, folder: RunFolder) -> None:
    """Ask the clients for the thresholds of adaptive exits, and how well the model serves them."""
    personal = survey.settings.personal != "off"
    if not strategy.client_models(survey.model.config):
        add_thresholds(survey)
        if personal:
            score_clients(survey, folder)
    elif personal:
        log(WARNING, "personal models: left out, clients hold no cut of this run's model")


def add_thresholds(survey: Survey) -> None:
    """Put the thresholds of adaptive exits into the trained model's configuration.

    Whatever goes wrong, the run ends with its model: ``ef-asr calibrate`` can do it later.
    """
    try:
        found = calibrate(survey)
    except Exception as error:
        log(WARNING, "calibration: failed, so the model has no thresholds: %s", error)
    else:
        survey.model.config.update({"exit_thresholds": found})


def score_clients(survey: Survey, folder: RunFolder) -> None:
    """Write how well the trained model serves each client, as it is and fine-tuned there.

    Whatever goes wrong, the run ends with its model.
    """
    try:
        results = personalise(survey)
    except Exception as error:
        log(WARNING, "personal models: failed: %s", error)
    else:
        folder.write_personal({name: asdict(result) for name, result in results.items()})


def write_config(folder: RunFolder, config: Mapping[str, Any], after: int) -> None:
    """Write the run config; where it changes that of the rounds so far, say so and keep both."""
    changes = folder.changes(config) if after else {}
    if changes:
        folder.keep_config(after)
    for key, (before, now) in changes.items():
        log(WARNING, "resume: %s: %r to round %d, %r from now on", key, before, after, now)
    folder.write_config(config)


def client_costs(strategy: RunStrategy, config: EarlyExitConfig) -> list[float]:
    """Return the multiply-adds per second of audio of the model of a client of each capacity."""
    models = strategy.client_models(config)
    return [multiply_adds(model)[-1] for model in models] or multiply_adds(config)


def write_results(
    folder: RunFolder,
    settings: Settings,
    model: EarlyExitForCTC,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write the trained model with its card, the plot of its error rates, and the report."""
    from server_app.results.card import write_card
    from server_app.results.plots import plot_error_rates  # matplotlib, only when a run ends
    from server_app.results.report import write_report
    from server_app.results.run import Run

    bring_back_compiler()
    merged(model).save_pretrained(folder.model)
    tokenizer.save_pretrained(folder.model)
    write_card(Run.read(folder.path))
    title = f"{settings.model}, {settings.strategy}, {settings.data} {settings.data_path}".strip()
    plot_error_rates(read_metrics(folder.metrics), folder.plot, title)
    write_report(folder.path)
