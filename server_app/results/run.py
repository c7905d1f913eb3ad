"""A run as its folder tells it, whether it is finished or not."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.settings import Settings
from server_app.results.compute import PASSES_A_STEP, multiply_adds
from server_app.run_folder import RunFolder, read_metrics, read_object
from server_app.strategy.registry import STRATEGIES


@dataclass
class Run:
    """One run folder.

    Attributes
    ----------
    path : Path
        The folder.
    method : str
        What ``command.json`` calls it, or the folder's name.
    part : int, optional
        Its place in a compound method.
    nodes : int, optional
        Clients in the federation.
    commands : list of str
        What started it.
    versions : list of dict
        The versions of Python and packages that it ran on, one after the other; empty if unknown.
    config : dict
        The run config, keys it does not have at their defaults.
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
        """Read a run folder, of a finished run or not.

        Raises
        ------
        ValueError
            If a file in it is no JSON object.
        """
        folder = RunFolder.open(path)
        command = folder.about()
        defaults = {name.replace("_", "-"): value for name, value in asdict(Settings()).items()}
        return cls(
            path=folder.path,
            method=str(command.get("method") or folder.path.name),  # a plain run has none
            part=command.get("part"),
            nodes=command.get("nodes"),
            commands=[str(each) for each in command.get("commands", [])],
            versions=command.get("versions", []),
            config=defaults | folder.read_config(),
            rounds=read_metrics(folder.metrics),
        )

    @property
    def seed(self) -> int:
        """The run config's seed."""
        return int(self.config["seed"])

    @property
    def data(self) -> str:
        """What it was trained and tested on."""
        return " ".join(str(self.config[key]) for key in ("data", "data-path") if self.config[key])

    @property
    def finished(self) -> bool:
        """Whether it had all its rounds."""
        return bool(self.rounds) and self.last_round >= self.config["rounds"]

    @property
    def last_round(self) -> int:
        """The last round that was written down; 0 if none was."""
        return self.rounds[-1]["round"] if self.rounds else 0

    @property
    def failures(self) -> int:
        """Client rounds that were lost."""
        return sum(record["failed"] for record in self.rounds)

    @property
    def clients(self) -> int:
        """Clients in the federation, or, where nothing says so, those that were ever sampled."""
        return self.nodes or len({name for each in self.rounds for name in each["capacities"]})

    @cached_property
    def deepest(self) -> int:
        """The deepest exit that anybody ever trained; 0 if nobody trained any."""
        trained = (
            exit
            for record in self.rounds
            for exit, trainers in enumerate(record["trainers-per-exit"], start=1)
            if trainers
        )
        return max(trained, default=0)

    @cached_property
    def federates(self) -> bool:
        """Whether in some round more than one client was asked: else there is nothing to send."""
        return any(record["sampled"] > 1 for record in self.rounds)

    @cached_property
    def model(self) -> EarlyExitConfig | None:
        """The configuration of its model, if that can be told."""
        folder = RunFolder.at(self.path).model
        if (folder / "config.json").is_file():
            found: EarlyExitConfig = EarlyExitConfig.from_pretrained(folder)
            return found
        return preset(self.config["model"]) if self.config["model"] in PRESETS else None

    @cached_property
    def sent(self) -> list[int]:
        """Bytes down and up until the end of each round."""
        if not self.federates:
            return [0] * len(self.rounds)
        return list(accumulate(each["bytes-down"] + each["bytes-up"] for each in self.rounds))

    @property
    def updates(self) -> int:
        """Client updates: usable replies in all rounds."""
        return sum(record["answered"] for record in self.rounds)

    @cached_property
    def knows_who(self) -> bool:
        """Whether the records say who did what."""
        return all(
            "nodes" in each and len(each["nodes"]) == each["answered"] for each in self.rounds
        )

    @property
    def heard(self) -> float | None:
        """Seconds of speech that clients trained on, each as often as they did; None if unknown."""
        if not self.knows_who:
            return None
        each = [n["audio_seconds"] for r in self.rounds for n in r["nodes"].values()]
        return float(self.config["local-epochs"] * sum(each))

    @cached_property
    def costs(self) -> list[float] | None:
        """Multiply-adds per second of audio of what a client of each capacity trains, if known.

        Earlier versions did not write them down; the built-in strategies' clients train cuts.
        """
        for record in self.rounds:
            if "multiply-adds" in record:
                return list(record["multiply-adds"])
        if self.model is None or self.config["strategy"] not in STRATEGIES:
            return None
        return _costs_of_cuts(self.model.to_json_string(use_diff=False))

    @cached_property
    def computed(self) -> list[float] | None:
        """Multiply-adds that clients spent on training until the end of each round.

        Each client ``PASSES_A_STEP`` times its audio, its local epochs, and what a second of audio
        takes in the model that it trains. None if that, or who did what, is unknown.
        """
        costs = self.costs
        if costs is None or not self.knows_who:
            return None
        epochs = PASSES_A_STEP * self.config["local-epochs"]
        return list(
            accumulate(
                epochs
                * sum(n["audio_seconds"] * costs[n["capacity"] - 1] for n in each["nodes"].values())
                for each in self.rounds
            )
        )

    def rounds_until(self, number: int) -> int:
        """Return how many rounds were over after round ``number``."""
        return sum(record["round"] <= number for record in self.rounds)

    def rates(self, rate: str, number: int) -> list[float]:
        """Return a rate per exit, as last evaluated in round ``number`` or before; may be empty."""
        for record in reversed(self.rounds[: self.rounds_until(number)]):
            if record[rate]:
                return list(record[rate])
        return []


@cache
def _costs_of_cuts(model: str) -> list[float]:
    return multiply_adds(EarlyExitConfig.from_dict(json.loads(model)))


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders among ``paths`` and below them, each once.

    Raises
    ------
    FileNotFoundError
        If there is none in one of them.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = list(_runs_below(path.expanduser().resolve()))
        if not below:
            raise FileNotFoundError(
                f"report: found no config.json in {path} or below it, wanted a run's folder, or "
                "one that holds runs"
            )
        found |= dict.fromkeys(below)
    return list(found)


def _runs_below(path: Path) -> Iterable[Path]:
    for folder, inside, files in os.walk(path):
        inside.sort()
        # A saved model has a config.json too, but no rounds.
        if "config.json" in files and "rounds" in read_object(Path(folder, "config.json")):
            inside.clear()
            yield Path(folder)
