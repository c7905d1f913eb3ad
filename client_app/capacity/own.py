"""Node capacity: configured, simulated, measured, or lowered after a failed round."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.metadata import version
from logging import INFO, WARNING

from flwr.common import log

from client_app.capacity import measuring, memory, store
from client_app.capacity.store import NodeCapacity
from client_app.task import Task
from efmodel.partition import capacity_of
from efmodel.settings import Settings

# Settings that change a step's time or memory: a capacity measured with others does not count.
COST_SETTINGS = (
    "freeze", "train", "batch_seconds", "batch_utterances", "max_seconds", "speed_perturbation",
    "augment", "precision", "compile", "gradient_checkpointing", "distill", "proximal_mu",
    "memory_mb", "seconds_per_audio_second",
)  # fmt: skip
DEFAULT_VOCABULARY = 30  # tokens


class CapacityError(ValueError):
    """The node can train less than the request asks for, or nothing; the server asks it again."""


def node_capacity(task: Task) -> int:
    """Return the deepest exit that this node can train, from 1 to the model's number of exits.

    A device may set its capacity in its node config (``--node-config 'capacity=2'``). A simulated
    node has the capacity that the run config's ``capacities`` gives its partition. Any other node
    measures a training step of each exit, once per model. A device's capacity falls after a round
    that took too much (``lower``).

    Raises
    ------
    ValueError
        If the node config's capacity is no exit of the model.
    CapacityError
        If not even exit 1 fits.
    """
    if is_simulated(task) and task.partition:
        return capacity_of(task.settings.capacities, *task.partition, task.num_exits)
    return _device_capacity(task).capacity


def is_simulated(task: Task) -> bool:
    """Return whether the run config sets this node's capacity."""
    return task.partition is not None and "capacity" not in task.node_config


def lower(task: Task, why: str) -> int:
    """Store that the requested exit was too much for this device; return its new capacity."""
    return _lowered(task, _device_capacity(task), task.requested_capacity, why).capacity


def _device_capacity(task: Task) -> NodeCapacity:
    """Return the stored capacity, else the configured or the measured one."""
    key = cache_key(task)
    capacity = store.load(key)
    if capacity is None and "capacity" in task.node_config:
        capacity = NodeCapacity(capacity_from_config(task), "set in the node config")
    elif capacity is None:
        capacity = measure_capacity(task)
        store.keep(key, capacity)
        log(INFO, "capacity %d of %d, %s; stored in %s",
            capacity.capacity, task.num_exits, capacity.why, store.path(key))  # fmt: skip
    if store.was_killed(key):
        why = "the system killed a round's process for memory"
        capacity = _lowered(task, capacity, capacity.capacity, why)
    return capacity


def capacity_from_config(task: Task) -> int:
    """Return the capacity that the node config sets.

    Raises
    ------
    ValueError
        If it is no exit of the model.
    """
    value = task.node_config["capacity"]
    if type(value) is not int or not 1 <= value <= task.num_exits:
        raise ValueError(f"node-config capacity: found {value!r}, wanted 1 to {task.num_exits}")
    return value


def budget_of(settings: Settings) -> measuring.Budget:
    """Return what training may take: by default half of the memory that is free now."""
    memory_mb = float(settings.memory_mb) or memory.free_mb() / 2
    return measuring.Budget(memory_mb, settings.seconds_per_audio_second)


def measure_capacity(task: Task) -> NodeCapacity:
    """Measure a training step of each exit, and return the deepest exit that fits.

    Raises
    ------
    CapacityError
        If none does.
    """
    budget = budget_of(task.settings)
    log(INFO, "capacity: measuring a training step of each exit, within %.0f MB", budget.memory_mb)
    costs = list(measuring.measure(task.model_config, task.settings, budget))
    fitting = [cost for cost in costs if not cost.obstacle]
    if not fitting:
        raise CapacityError(
            f"capacity: exit 1 does not fit: found {costs[0].obstacle}; wanted a larger memory-mb, "
            "a smaller max-seconds or batch-seconds, a frozen part, or a smaller model"
        )
    deepest = fitting[-1]
    why = f"measured {deepest.seconds:.3g} s per second of audio and {deepest.peak_mb:.0f} MB"
    if len(fitting) < task.num_exits:
        why += f"; exit {deepest.exit + 1}: {costs[-1].obstacle}"
    return NodeCapacity(deepest.exit, why, costs)


def _lowered(task: Task, current: NodeCapacity, failed_exit: int, why: str) -> NodeCapacity:
    """Store and return the capacity after ``failed_exit`` was too much; it is at least 1."""
    capacity = max(1, min(current.capacity, failed_exit - 1))
    if capacity == current.capacity:
        log(WARNING, "capacity stays %d, there is no lower one: %s", capacity, why)
        return current
    lowered = replace(current, capacity=capacity, why=why)
    key = cache_key(task)
    store.keep(key, lowered)
    log(WARNING, "capacity falls from %d to %d: %s; stored in %s, delete it to start again",
        current.capacity, capacity, why, store.path(key))  # fmt: skip
    return lowered


def cache_key(task: Task) -> str:
    """Return the key under which this node's capacity for the task's model is stored.

    The key holds all that the capacity depends on: the model, the node config, the settings that
    change a step's cost, and the versions of torch and transformers.
    """
    settings = asdict(task.settings)
    described = {
        # A query may come before the vocabulary is known, whose size hardly matters.
        "model": task.model_sizes | {"vocab_size": DEFAULT_VOCABULARY},
        "said": task.node_config.get("capacity", 0),  # version 0.1.0's word: its files still count
        "settings": {name: settings[name] for name in COST_SETTINGS},
        "versions": [version(package) for package in ("torch", "transformers")],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
