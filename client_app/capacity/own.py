"""The deepest exit that this node can train: said, given, measured, or learned the hard way."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from logging import INFO, WARNING
from typing import Any

from flwr.app import Context
from flwr.common import log

from client_app.capacity import measuring, memory, store
from client_app.capacity.store import Found
from efmodel.partition import capacity_of
from efmodel.settings import Settings

# What a step's time and memory depend on, beside the model.
COSTLY = (
    "freeze", "train", "batch_seconds", "batch_utterances", "max_seconds", "speed_perturbation",
    "precision", "compile", "gradient_checkpointing", "distill", "proximal_mu",
    "memory_mb", "seconds_per_audio_second",
)  # fmt: skip


class CapacityError(ValueError):
    """A node that can train less than it was asked for, or nothing; the server asks it again."""


def capacity(context: Context, settings: Settings, model_config: str) -> int:
    """Return this node's capacity, from 1 to the exits of the model in ``model_config`` (JSON).

    A deployed node says it in its node config (``--node-config 'capacity=2'``); a simulated one has
    what the run config's ``capacities`` gives its partition; any other measures, once per model,
    what a training step of each exit takes. A deployed one for which that proved too much in a
    round (``fall_back``) has less from then on.

    Raises
    ------
    ValueError
        If the node config's capacity is no exit of the model.
    CapacityError
        If not even exit 1 fits.
    """
    node, num_exits = context.node_config, len(json.loads(model_config)["exit_layers"])
    if is_simulated(context):
        partition, partitions = int(node["partition-id"]), int(node["num-partitions"])
        return capacity_of(settings.capacities, partition, partitions, num_exits)
    return _found(context, settings, model_config).capacity


def is_simulated(context: Context) -> bool:
    """Return whether a simulation says what this node is."""
    return "partition-id" in context.node_config and "capacity" not in context.node_config


def fall_back(context: Context, settings: Settings, model_config: str, asked: int, why: str) -> int:
    """Remember that exit ``asked`` was too much for this node; return what it can train now."""
    found = _found(context, settings, model_config)
    return _lowered(name_of(context, settings, model_config), found, asked, why).capacity


def _found(context: Context, settings: Settings, model_config: str) -> Found:
    name = name_of(context, settings, model_config)
    found = store.load(name)
    if found is None:
        num_exits = len(json.loads(model_config)["exit_layers"])
        if "capacity" in context.node_config:
            found = Found(_said(context.node_config["capacity"], num_exits), "node-config says so")
        else:
            budgets = own_budgets(context.node_config, settings)
            found = deepest(model_config, budgets, num_exits)
            store.keep(name, found)
            kept = store.path(name)
            of = f"{found.capacity} of {num_exits}"
            log(INFO, "capacity %s, %s; kept in %s", of, found.why, kept)
    if store.was_killed(name):
        why = "the system killed a round's process for memory"
        found = _lowered(name, found, found.capacity, why)
    return found


def own_budgets(node: Mapping[str, Any], settings: Settings) -> Settings:
    """Return the settings with the budgets that the node config gives in place of the run's."""
    named = {"memory-mb": "memory_mb", "seconds-per-audio-second": "seconds_per_audio_second"}
    own = Settings.from_run_config({key: node[key] for key in named if key in node})
    return replace(settings, **{n: getattr(own, n) for key, n in named.items() if key in node})


def budget_of(settings: Settings) -> measuring.Budget:
    """Return what training may take: by default half of the memory that is free now."""
    memory_mb = float(settings.memory_mb) or memory.free_mb() / 2
    return measuring.Budget(memory_mb, settings.seconds_per_audio_second)


def deepest(model_config: str, settings: Settings, num_exits: int) -> Found:
    """Measure, and return the deepest exit that fits.

    Raises
    ------
    CapacityError
        If none does.
    """
    budget = budget_of(settings)
    log(INFO, "capacity: measuring a training step at each exit, within %.0f MB", budget.memory_mb)
    costs = list(measuring.measure(model_config, settings, budget))
    fitting = [cost for cost in costs if not cost.obstacle]
    if not fitting:
        raise CapacityError(
            f"capacity: exit 1 does not fit: found {costs[0].obstacle}; wanted a larger memory-mb, "
            "a smaller max-seconds or batch-seconds, a frozen part, or a smaller model"
        )
    best = fitting[-1]
    why = f"measured {best.seconds:.3g} s per second of audio and {best.peak_mb:.0f} MB"
    if len(fitting) < num_exits:
        why += f"; exit {best.exit + 1}: {costs[-1].obstacle}"
    return Found(best.exit, why, costs)


def _lowered(name: str, found: Found, asked: int, why: str) -> Found:
    lower = replace(found, capacity=max(1, min(found.capacity, asked - 1)), why=why)
    if lower.capacity == found.capacity:
        log(WARNING, "capacity %d stays, there is no lower one: %s", found.capacity, why)
        return found
    store.keep(name, lower)
    kept = store.path(name)
    log(WARNING, "capacity falls from %d to %d: %s; kept in %s, delete it to start anew",
        found.capacity, lower.capacity, why, kept)  # fmt: skip
    return lower


def _said(found: object, num_exits: int) -> int:
    if type(found) is not int or not 1 <= found <= num_exits:
        raise ValueError(f"node-config capacity: found {found!r}, wanted 1 to {num_exits}")
    return found


def name_of(context: Context, settings: Settings, model_config: str) -> str:
    """Return under what name this node keeps what it knows of its capacity for that model."""
    own = asdict(own_budgets(context.node_config, settings))
    described = {
        "model": json.loads(model_config),
        "said": context.node_config.get("capacity", 0),
        "settings": {name: own[name] for name in COSTLY},
        "versions": [version(package) for package in ("torch", "transformers")],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
