"""The folder of one run: config.json, metrics.jsonl, checkpoints/, model/, plots."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efmodel import atomic_file

# The last line that a server app logs, whatever becomes of the processes around it.
FINISHED, FAILED = "run finished: ", "run failed: "


class RunFolder:
    """Where a run's results go.

    Parameters
    ----------
    output : str
        The folder; empty for a new one under ``~/ef-asr-runs``, named by the time.
    resume : str
        The folder of a run to go on with; empty for a new run.

    Raises
    ------
    FileExistsError
        If ``output`` already holds a run: results are never overwritten.
    FileNotFoundError
        If ``resume`` holds no run.
    """

    def __init__(self, output: str, resume: str = "") -> None:
        if resume:
            self.path = Path(resume).expanduser().resolve()
            if not self.config.is_file():
                raise FileNotFoundError(f"resume: found no config.json in {self.path}")
            return
        if output:
            self.path = Path(output).expanduser().resolve()
        else:
            self.path = Path.home() / "ef-asr-runs" / time.strftime("%Y%m%d-%H%M%S")
        if self.metrics.exists():
            raise FileExistsError(f"output: {self.path} holds a run already, wanted a new folder")
        self.path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def at(cls, path: Path) -> "RunFolder":
        """Return a folder's names, whether there is a run in it or not; nothing is made."""
        folder = cls.__new__(cls)
        folder.path = path.expanduser().resolve()
        return folder

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line a round."""
        return self.path / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """The run config."""
        return self.path / "config.json"

    @property
    def command(self) -> Path:
        """What started the run: its method, number of nodes, commands, and versions."""
        return self.path / "command.json"

    @property
    def checkpoints(self) -> Path:
        """What a run goes on from."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """What ``from_pretrained`` loads, tokenizer included."""
        return self.path / "model"

    @property
    def plot(self) -> Path:
        """WER and CER per exit over the rounds."""
        return self.path / "wer.png"

    @property
    def log(self) -> Path:
        """What the server app said, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def status(self) -> Path:
        """How the run is going, in Prometheus's text format."""
        return self.path / "metrics.prom"

    @property
    def report(self) -> Path:
        """How the run went, for a browser."""
        return self.path / "report.html"

    def add_command(self, command: str, method: str, nodes: int) -> None:
        """Write down a command that started, or resumed, the run; a sweep told more before."""
        known = {"method": method, "nodes": nodes, "commands": [], **self.about()}
        self.write_command({**known, "commands": [*known["commands"], command]})

    def add_versions(self, versions: Mapping[str, str]) -> None:
        """Write down on what the run was started, or resumed, if on anything else than before."""
        about = self.about()
        before = about.get("versions", [])
        if versions not in before:
            self.write_command({**about, "versions": [*before, versions]})

    def about(self) -> dict[str, Any]:
        """Return what is written down of how the run was started; empty if nothing is.

        Raises
        ------
        ValueError
            If that is no JSON object.
        """
        return read_object(self.command) if self.command.is_file() else {}

    def write_command(self, about: Mapping[str, Any]) -> None:
        """Write down how the run is, or will be, started."""
        atomic_file.write(self.command, (json.dumps(about, indent=2) + "\n").encode())

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write down the whole run config."""
        text = json.dumps(dict(sorted(config.items())), indent=2)
        self.config.write_text(text + "\n", encoding="utf-8")

    def write_round(self, record: Mapping[str, Any]) -> None:
        """Append one round's line."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, last_round: int) -> None:
        """Drop the lines of later rounds, and one half written: those rounds are run again."""
        kept = [record for record in read_metrics(self.metrics) if record["round"] <= last_round]
        part = self.metrics.with_suffix(".part")
        part.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        part.replace(self.metrics)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises
    ------
    ValueError
        Naming the file, if it holds none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: found no JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found {type(found).__name__}, wanted a JSON object")
    return found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rounds of a ``metrics.jsonl``; a last line still being written is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines if line]


def line(record: dict[str, Any], rounds: int) -> str:
    """Return a round's record as one line that a person can read."""
    moved = record["bytes-down"] + record["bytes-up"]
    full = record["bytes-down-full"] + record["bytes-up-full"]
    parts = [
        f"round {record['round']}/{rounds}",
        f"clients {record['answered']}/{record['sampled']}"
        + (f" ({record['failed']} failed)" if record["failed"] else "")
        + (f" ({record['spare']} spare)" if record["spare"] else ""),
        "trainers per exit " + " ".join(map(str, record["trainers-per-exit"])),
        f"{moved / 1e6:.1f} MB" + (f" ({moved / full:.0%} of full)" if full else ""),
    ]
    if record["clients"].get("train-loss"):
        losses = " ".join(f"{loss:.2f}" for loss in record["clients"]["train-loss"])
        parts.append(f"train loss {losses}")
    if record["wer"]:
        parts.append("WER % " + " ".join(f"{100 * wer:.1f}" for wer in record["wer"]))
        parts.append("CER % " + " ".join(f"{100 * cer:.1f}" for cer in record["cer"]))
    parts.append(f"{record['train-seconds'] + record['evaluate-seconds']:.1f} s")
    return " | ".join(parts)
