"""The folder of one run: config.json, vocabulary.json, metrics.jsonl, checkpoints/, model/ ..."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from efmodel import atomic_file
from efmodel.errors import UserError
from efmodel.settings import from_version_0_1_0

# Start of the last line that the server app logs.
FINISHED, FAILED = "run finished: ", "run failed: "
ROUNDING = 1e-9  # of an epsilon: sums of the same rounds in another order
# Run config keys that may differ after every resumption: they change nothing about the clients.
FREE_TO_CHANGE = ("rounds", "output", "resume", "tracker")


class RunFolderError(UserError):
    """A run folder that is missing, taken, damaged, or cannot be made."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: where each file is, and how it is written.

    ``create`` makes the folder of a new run, ``open`` takes that of a run, ``at`` any path.
    """

    path: Path

    @classmethod
    def create(cls, output: str | Path = "", parent: str | Path = "~/ef-asr-runs") -> "RunFolder":
        """Make the folder of a new run.

        Parameters
        ----------
        output : str or Path
            The folder; empty for a new one, named by the time.
        parent : str or Path
            Where a new one goes.

        Raises
        ------
        RunFolderError
            If it holds a run already, since results are never overwritten, or cannot be made.
        """
        folder = cls.at(output or parent)
        try:
            if not output:
                return cls(_new_folder(folder.path))
            if folder.metrics.exists():
                raise RunFolderError(
                    f"output: {folder.path} holds a run already, wanted a new folder"
                )
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"output: {folder.path} cannot be made ({error.strerror}), wanted a folder of yours"
            ) from None
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Return the folder of a run, finished or not.

        Raises
        ------
        RunFolderError
            If there is no run config in it.
        """
        folder = cls.at(path)
        if not folder.config.is_file():
            raise RunFolderError(f"found no config.json in {folder.path}, wanted a run folder")
        return folder

    @classmethod
    def at(cls, path: str | Path) -> "RunFolder":
        """Return the names of the files of a run at a path, whether there is one or not."""
        return cls(Path(path).expanduser().resolve())

    @property
    def metrics(self) -> Path:
        """The metrics of each round, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """The run config."""
        return self.path / "config.json"

    @property
    def command(self) -> Path:
        """How the run was started: method, number of nodes, commands, package versions."""
        return self.path / "command.json"

    @property
    def vocabulary(self) -> Path:
        """The run's tokenizer, and where its characters come from."""
        return self.path / "vocabulary.json"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, from which a run resumes."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The last model and its tokenizer, for ``from_pretrained``."""
        return self.path / "model"

    @property
    def adaptive(self) -> Path:
        """What adaptive exits give on the test split, if they were calibrated."""
        return self.path / "adaptive.json"

    @property
    def personal(self) -> Path:
        """How well the result serves each client, as it is and fine-tuned there, if asked."""
        return self.path / "personal.json"

    @property
    def privacy(self) -> Path:
        """The rounds with noise so far, in a run with differential privacy."""
        return self.path / "privacy.json"

    @property
    def plot(self) -> Path:
        """A plot of WER and CER per exit over the rounds."""
        return self.path / "wer.png"

    @property
    def log(self) -> Path:
        """The log of the server app, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def status(self) -> Path:
        """The state of the run, in Prometheus's text format."""
        return self.path / "metrics.prom"

    @property
    def report(self) -> Path:
        """The report of the run, for a browser."""
        return self.path / "report.html"

    def add_command(self, command: str, method: str, nodes: int) -> None:
        """Add a command that started or resumed the run; what a sweep wrote before stays."""
        about = {"method": method, "nodes": nodes, "commands": [], **self.about()}
        self.write_command({**about, "commands": [*about["commands"], command]})

    def add_versions(self, versions: Mapping[str, str]) -> None:
        """Add the package versions that the run was started or resumed on, if they are new."""
        about = self.about()
        before = about.get("versions", [])
        if versions not in before:
            self.write_command({**about, "versions": [*before, versions]})

    def about(self) -> dict[str, Any]:
        """Return how the run was started, from ``command.json``; empty if there is none.

        Raises
        ------
        RunFolderError
            If the file holds no JSON object.
        """
        return read_object(self.command) if self.command.is_file() else {}

    def write_command(self, about: Mapping[str, Any]) -> None:
        """Write how the run is started to ``command.json``."""
        atomic_file.write(self.command, (json.dumps(about, indent=2) + "\n").encode())

    def write_adaptive(self, score: Mapping[str, Any]) -> None:
        """Write what adaptive exits give on the test split."""
        atomic_file.write(self.adaptive, (json.dumps(score, indent=2) + "\n").encode())

    def write_personal(self, clients: Mapping[str, Any]) -> None:
        """Write each client's errors, by its name."""
        atomic_file.write(self.personal, (json.dumps(clients, indent=2) + "\n").encode())

    def write_privacy(self, ledger: Mapping[str, Any]) -> None:
        """Write the rounds with noise so far; no file where there are none."""
        if ledger:
            atomic_file.write(self.privacy, (json.dumps(ledger, indent=2) + "\n").encode())

    def read_privacy(self) -> dict[str, Any]:
        """Return the rounds with noise so far; empty if there are none.

        Raises
        ------
        RunFolderError
            If the file holds no JSON object.
        """
        return read_object(self.privacy) if self.privacy.is_file() else {}

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the whole run config."""
        text = json.dumps(dict(sorted(config.items())), indent=2)
        self.config.write_text(text + "\n", encoding="utf-8")

    def read_config(self) -> dict[str, Any]:
        """Return the run config; keys and values of version 0.1.0 in today's form.

        Raises
        ------
        RunFolderError
            If the file holds no JSON object.
        """
        return from_version_0_1_0(read_object(self.config))

    def changes(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return what a run config changes in that of the run: ``{key: (before, now)}``.

        Raises
        ------
        RunFolderError
            If ``config.json`` holds no JSON object.
        """
        before = self.read_config() if self.config.is_file() else {}
        return {
            key: (before[key], config[key])
            for key in sorted(before.keys() & config.keys() - set(FREE_TO_CHANGE))
            if before[key] != config[key]
        }

    def keep_config(self, last_round: int) -> None:
        """Copy ``config.json`` under the number of the last round that it was used for."""
        kept = self.path / f"config-to-round-{last_round:05d}.json"
        if self.config.is_file() and not kept.exists():  # a later one was used for no round
            shutil.copy(self.config, kept)

    def is_finished(self, config: Mapping[str, Any]) -> bool:
        """Return whether the run has had its rounds and the report, the last file, is written.

        Parameters
        ----------
        config : Mapping
            The run config; ``rounds``, ``patience`` and ``dp-budget`` are used.

        Raises
        ------
        RunFolderError
            If ``metrics.jsonl`` has a line that cannot be read.
        """
        return self.report.is_file() and is_over(read_metrics(self.metrics), config)

    def write_round(self, record: Mapping[str, Any]) -> None:
        """Append the metrics of one round."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, last_round: int) -> None:
        """Drop the lines of later rounds and an unfinished line: those rounds run again."""
        kept = [record for record in read_metrics(self.metrics) if record["round"] <= last_round]
        part = self.metrics.with_suffix(".part")
        part.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        part.replace(self.metrics)


def _new_folder(parent: Path) -> Path:
    """Make a folder that no other run has, named by the time."""
    parent.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        folder = parent / (now if number == 1 else f"{now}-{number}")
        with suppress(FileExistsError):  # of a run that was started in the same second
            folder.mkdir()
            return folder
    raise AssertionError("unreachable: the numbers have no end")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises
    ------
    RunFolderError
        Naming the file, if it holds no JSON object.
    """
    return _object(path.read_bytes(), str(path))


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RunFolderError(f"{where}: found no JSON ({error})") from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{where}: found {type(content).__name__}, wanted a JSON object")
    return content


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rounds in a ``metrics.jsonl``, without a last line that is still being written.

    Raises
    ------
    RunFolderError
        Naming the file and the line that is no round.
    """
    if not path.exists():
        return []
    records = []
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        if text:
            record = _object(text, f"{path}, line {number}")
            if type(record.get("round")) is not int:
                found = f"found round {record.get('round')!r}"
                raise RunFolderError(f"{path}, line {number}: {found}, wanted a number")
            records.append(record)
    return records


def is_over(records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> bool:
    """Return whether a run has had all its rounds, all its budget, or has stopped getting better.

    Parameters
    ----------
    records : Sequence of Mapping
        The rounds in ``metrics.jsonl``.
    config : Mapping
        The run config; ``rounds``, ``patience`` and ``dp-budget`` are used.
    """
    last_round = records[-1]["round"] if records else 0
    done = last_round >= config["rounds"] or has_spent(records, config["dp-budget"])
    return bool(done or has_stalled(records, config["patience"]))


def has_spent(records: Sequence[Mapping[str, Any]], budget: float) -> bool:
    """Return whether one more round like the last would exceed an epsilon; 0 for no limit."""
    spent = records[-1].get("privacy", {}).values() if budget and records else ()
    # A run of an earlier commit has no "next-epsilon": it counts as one that may go on.
    return any(each.get("next-epsilon", 0.0) > budget * (1 + ROUNDING) for each in spent)


def has_stalled(records: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Return whether the last ``patience`` evaluations were no better than the best before them.

    An evaluation is the mean WER over the exits: on the server's test set, or on the clients'
    held-out speech where the server has none.

    Parameters
    ----------
    records : Sequence of Mapping
        The rounds in ``metrics.jsonl``.
    patience : int
        In evaluations; 0 for a run that never stops early.
    """
    central = [record["wer"] for record in records if record["wer"]]
    clients = [record["clients"]["wer"] for record in records if record["clients"].get("wer")]
    rates = [sum(wer) / len(wer) for wer in central or clients]
    return bool(patience and rates and len(rates) - 1 - rates.index(min(rates)) >= patience)


def failures(record: Mapping[str, Any]) -> str:
    """Return why clients of a round failed, each reason once: "partition 3 and 4 others: WHY"."""
    clients: dict[str, list[str]] = {}
    for name, reason in record["failures"].items():
        clients.setdefault(reason, []).append(name)
    return "; ".join(
        names[0] + (f" and {len(names) - 1} others" if len(names) > 1 else "") + f": {reason}"
        for reason, names in clients.items()
    )


def line(record: dict[str, Any], rounds: int) -> str:
    """Return the metrics of a round as one line of the log."""
    sent = record["bytes-down"] + record["bytes-up"]
    full = record["bytes-down-full"] + record["bytes-up-full"]
    parts = [
        f"round {record['round']}/{rounds}",
        f"clients {record['answered']}/{record['sampled']}"
        + (f" ({record['failed']} failed)" if record["failed"] else "")
        + (f" ({record['spare']} spare)" if record["spare"] else ""),
        "trainers per exit " + " ".join(map(str, record["trainers-per-exit"])),
        f"{sent / 1e6:.1f} MB" + (f" ({sent / full:.0%} of full)" if full else ""),
    ]
    if record["clients"].get("train-loss"):
        losses = " ".join(f"{loss:.2f}" for loss in record["clients"]["train-loss"])
        parts.append(f"train loss {losses}")
    if record["wer"]:
        parts.append("WER % " + " ".join(f"{100 * wer:.1f}" for wer in record["wer"]))
        parts.append("CER % " + " ".join(f"{100 * cer:.1f}" for cer in record["cer"]))
    for name, spent in record.get("privacy", {}).items():
        parts.append(f"{name} epsilon {spent['epsilon']:.3g} at delta {spent['delta']:g}")
    if not record["answered"]:
        parts.append(f"nothing trained ({failures(record)})")
    parts.append(f"{record['train-seconds'] + record['evaluate-seconds']:.1f} s")
    return " | ".join(parts)
