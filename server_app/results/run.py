"""A run, finished or not, as its run folder records it."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from efmodel.settings import Settings
from server_app.run_folder import RunFolder, is_over, read_metrics, read_object

# A training step costs about three forward passes, since the backward pass costs about two
# (Kaplan et al., "Scaling Laws for Neural Language Models", arXiv 2001.08361, section 2.1).
PASSES_PER_STEP = 3


def default_config() -> dict[str, Any]:
    """Return every key of the run config with its default value."""
    return {name.replace("_", "-"): value for name, value in asdict(Settings()).items()}


@dataclass
class Run:
    """One run folder.

    Attributes
    ----------
    path : Path
        The folder.
    method : str
        The method's name in ``command.json``, or the folder's name.
    part : int, optional
        Index of the run within a compound method.
    nodes : int, optional
        Clients in the federation.
    commands : list of str
        The commands that started or resumed the run.
    versions : list of dict
        Versions of Python and packages, one entry for each software environment that the run used,
        in order; empty if unknown.
    config : dict
        The run config. Keys missing from ``config.json`` have their default.
    rounds : list of dict
        The records of ``metrics.jsonl``.
    """

    path: Path
    method: str
    part: int | None
    nodes: int | None
    commands: list[str]
    versions: list[dict[str, str]]
    config: dict[str, Any]
    rounds: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read the run folder of a run, finished or not.

        Raises
        ------
        FileNotFoundError
            If the folder holds no ``config.json``.
        ValueError
            If ``config.json`` or ``command.json`` holds no JSON object.
        """
        folder = RunFolder.open(path)
        command = folder.about()
        return cls(
            path=folder.path,
            method=str(command.get("method") or folder.path.name),  # a plain run has no method
            part=command.get("part"),
            nodes=command.get("nodes"),
            commands=[str(line) for line in command.get("commands", [])],
            versions=command.get("versions", []),
            config=default_config() | folder.read_config(),
            rounds=read_metrics(folder.metrics),
        )

    @property
    def seed(self) -> int:
        """The run config's seed."""
        return int(self.config["seed"])

    @property
    def data(self) -> str:
        """The corpus that the run trained and tested on: its name, its path, or both."""
        return " ".join(str(self.config[key]) for key in ("data", "data-path") if self.config[key])

    @property
    def finished(self) -> bool:
        """Whether all rounds were run, or those that ``patience`` and ``dp-budget`` allowed."""
        return bool(self.rounds) and is_over(self.rounds, self.config)

    @property
    def result_evaluation(self) -> dict[str, Any] | None:
        """The evaluated round whose model is the result: the last one, or the best by patience."""
        evaluated = [record for record in reversed(self.rounds) if record["wer"]]
        if self.config["patience"]:
            evaluated.sort(key=lambda record: sum(record["wer"]))  # of equals the latest
        return evaluated[0] if evaluated else None

    @property
    def last_round(self) -> int:
        """The last round in ``metrics.jsonl``; 0 if there is none."""
        return self.rounds[-1]["round"] if self.rounds else 0

    @property
    def failures(self) -> int:
        """Client rounds that ended without a usable reply."""
        return sum(record["failed"] for record in self.rounds)

    @property
    def clients(self) -> int:
        """Clients in the federation; if that is not recorded, the clients sampled at least once."""
        return self.nodes or len({name for record in self.rounds for name in record["capacities"]})

    @cached_property
    def deepest_trained_exit(self) -> int:
        """The deepest exit that a client trained in any round; 0 if none was trained."""
        trained_exits = (
            exit
            for record in self.rounds
            for exit, trainers in enumerate(record["trainers-per-exit"], start=1)
            if trainers
        )
        return max(trained_exits, default=0)

    @cached_property
    def is_federated(self) -> bool:
        """Whether more than one client was sampled in some round; otherwise nothing is sent."""
        return any(record["sampled"] > 1 for record in self.rounds)

    @cached_property
    def exit_layers(self) -> list[int] | None:
        """The encoder layer of each exit: of the saved model, or of the preset; None if unknown."""
        saved_config = RunFolder.at(self.path).model / "config.json"
        if saved_config.is_file():
            return read_object(saved_config).get("exit_layers")
        from efmodel.config import PRESETS  # imports transformers

        preset = PRESETS.get(self.config["model"])
        return None if preset is None else list(preset["exit_layers"])

    @cached_property
    def cumulative_bytes(self) -> list[int]:
        """Bytes sent, down and up, until the end of each round."""
        if not self.is_federated:
            return [0] * len(self.rounds)
        return list(accumulate(record["bytes-down"] + record["bytes-up"] for record in self.rounds))

    @property
    def client_updates(self) -> int:
        """Usable replies in all rounds."""
        return sum(record["answered"] for record in self.rounds)

    @cached_property
    def has_node_records(self) -> bool:
        """Whether every round records what each of its clients did."""
        return all(
            "nodes" in record and len(record["nodes"]) == record["answered"]
            for record in self.rounds
        )

    @property
    def trained_seconds(self) -> float | None:
        """Seconds of speech trained on, counted again in every local epoch; None if unknown."""
        if not self.has_node_records:
            return None
        seconds = [
            node["audio_seconds"] for record in self.rounds for node in record["nodes"].values()
        ]
        return float(self.config["local-epochs"] * sum(seconds))

    @cached_property
    def multiply_adds_per_second(self) -> list[float] | None:
        """Multiply-adds of a forward pass per second of audio, by client capacity; None if unknown.

        Early versions did not record them. They are then counted from the model, if a built-in
        strategy ran: its clients train the model cut at their capacity.
        """
        for record in self.rounds:
            if "multiply-adds" in record:
                return list(record["multiply-adds"])
        from server_app.strategy.registry import STRATEGIES  # imports Flower

        if self.config["strategy"] not in STRATEGIES:
            return None
        return _counted_multiply_adds(self.path, self.config["model"])

    @cached_property
    def cumulative_multiply_adds(self) -> list[float] | None:
        """Multiply-adds of all clients' training until the end of each round; None if unknown.

        Each client adds ``PASSES_PER_STEP`` * local epochs * its seconds of audio * the multiply-
        adds per second of the model that it trains.
        """
        per_second = self.multiply_adds_per_second if self.has_node_records else None
        if per_second is None:
            return None

        def forward_pass(record: dict[str, Any]) -> float:
            nodes = record["nodes"].values()
            return float(sum(n["audio_seconds"] * per_second[n["capacity"] - 1] for n in nodes))

        passes = PASSES_PER_STEP * self.config["local-epochs"]
        return list(accumulate(passes * forward_pass(record) for record in self.rounds))

    def rounds_until(self, number: int) -> int:
        """Return how many recorded rounds have a number up to ``number``."""
        return sum(record["round"] <= number for record in self.rounds)

    def rates(self, rate: str, number: int) -> list[float]:
        """Return ``wer`` or ``cer`` per exit, as last evaluated up to round ``number``.

        The list is empty if no such round was evaluated.
        """
        for record in reversed(self.rounds[: self.rounds_until(number)]):
            if record[rate]:
                return list(record[rate])
        return []


def _counted_multiply_adds(path: Path, preset_name: str) -> list[float] | None:
    """Count the multiply-adds of a run's model cut at each exit; None if there is no such model."""
    from efmodel.config import PRESETS, EarlyExitConfig, preset  # imports transformers

    saved_model = RunFolder.at(path).model
    if (saved_model / "config.json").is_file():
        config: EarlyExitConfig = EarlyExitConfig.from_pretrained(saved_model)
    elif preset_name in PRESETS:
        config = preset(preset_name)
    else:
        return None
    return _multiply_adds_of(config.to_json_string(use_diff=False))


@cache
def _multiply_adds_of(config_json: str) -> list[float]:
    """Count once for all runs of one model: a count takes a second."""
    from efmodel.config import EarlyExitConfig
    from efmodel.model.compute import multiply_adds  # imports torch

    return multiply_adds(EarlyExitConfig.from_dict(json.loads(config_json)))


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders at and below ``paths``, without duplicates.

    Raises
    ------
    FileNotFoundError
        If one of the paths holds no run folder.
    """
    run_folders: dict[Path, None] = {}
    for path in paths:
        below = list(_run_folders_below(path.expanduser().resolve()))
        if not below:
            raise FileNotFoundError(
                f"report: found no config.json in {path} or below it, wanted a run folder, or a "
                "folder that holds run folders"
            )
        run_folders |= dict.fromkeys(below)
    return list(run_folders)


def _run_folders_below(path: Path) -> Iterable[Path]:
    for folder, subfolders, files in os.walk(path):
        subfolders.sort()
        # A saved model has a config.json too, but that one has no key "rounds".
        if "config.json" in files and "rounds" in read_object(Path(folder, "config.json")):
            subfolders.clear()
            yield Path(folder)
