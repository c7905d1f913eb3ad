"""Experiment trackers: each round's numbers in TensorBoard, Weights & Biases or MLflow."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from logging import WARNING
from typing import Any

from flwr.common import log

from efmodel.settings import SettingsError
from server_app.run_folder import RunFolder

PROJECT = "ef-asr"
Track = Callable[[Mapping[str, float], int], None]  # numbers by name, and the round


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a round in ``metrics.jsonl`` by name, such as "wer/exit-1"."""
    per_exit = {
        "wer": record["wer"],
        "cer": record["cer"],
        "loss": record["loss"],
        "train-loss": record["clients"].get("train-loss", []),
        "trainers": record["trainers-per-exit"],
    }
    values = {
        f"{name}/exit-{exit}": float(value)
        for name, at_exits in per_exit.items()
        for exit, value in enumerate(at_exits, start=1)
    }
    for key in ("sampled", "answered", "failed"):
        values[f"clients/{key}"] = float(record[key])
    for name, spent in record.get("privacy", {}).items():
        values[f"epsilon/{name}"] = float(spent["epsilon"])
    for key in ("bytes-down", "bytes-up", "train-seconds"):
        values[key] = float(record[key])
    return {name: value for name, value in values.items() if math.isfinite(value)}


@contextmanager
def tensorboard(folder: RunFolder, config: Mapping[str, Any]) -> Iterator[Track]:
    """Write to ``tensorboard/`` in the run folder."""
    from torch.utils.tensorboard import SummaryWriter

    with closing(SummaryWriter(str(folder.path / "tensorboard"))) as writer:

        def track(values: Mapping[str, float], server_round: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, server_round)
            writer.flush()

        yield track


@contextmanager
def wandb(folder: RunFolder, config: Mapping[str, Any]) -> Iterator[Track]:
    """Log to a run of Weights & Biases, named as the run folder; its own variables configure it."""
    import wandb

    name, path = folder.path.name, str(folder.path)
    with wandb.init(project=PROJECT, name=name, dir=path, config=dict(config)) as run:
        yield lambda values, server_round: run.log(dict(values), step=server_round)


@contextmanager
def mlflow(folder: RunFolder, config: Mapping[str, Any]) -> Iterator[Track]:
    """Log to a run of MLflow, named as the run folder; its own variables configure it."""
    import mlflow

    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=folder.path.name) as run:
        mlflow.log_params(dict(config))
        id = run.info.run_id  # rounds end in another thread, which has no run of its own
        yield lambda values, server_round: mlflow.log_metrics(values, server_round, run_id=id)


TRACKERS = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


def check(name: str) -> None:
    """Refuse a tracker whose package is not installed, before a run starts.

    Raises
    ------
    SettingsError
        Naming the package.
    """
    if name in TRACKERS and find_spec(name) is None:
        raise SettingsError(f"tracker: found no package {name}, wanted it: pip install {name}")


@contextmanager
def tracking(name: str, folder: RunFolder, config: Mapping[str, Any]) -> Iterator[Track]:
    """Give the function that tracks a round; what goes wrong in it is logged, and the run goes on.

    Parameters
    ----------
    name : str
        One of ``TRACKERS``, or "off".
    folder : RunFolder
        The run's.
    config : Mapping
        The run config, which trackers show beside the numbers.
    """
    if name == "off":
        yield lambda values, server_round: None
        return
    check(name)
    with TRACKERS[name](folder, config) as track:

        def safely(values: Mapping[str, float], server_round: int) -> None:
            try:
                track(values, server_round)
            except Exception as error:  # each tracker has errors of its own
                log(WARNING, "tracker: round %d is missing in %s: %s", server_round, name, error)

        yield safely
