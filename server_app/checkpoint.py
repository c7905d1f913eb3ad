"""Checkpoints: all that a run needs to go on after a round as if it had never stopped.

A checkpoint is two files: ``round-00012.safetensors`` (model, optimizer's moments, and in its
header what else there is) and ``round-00012.sha256``, which ``sha256sum -c`` reads. The second is
written when the first is safely on disk; without it, or where it does not match, the first counts
for nothing. No random state needs keeping: cohorts and clients draw from the seed and the round.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from logging import WARNING
from pathlib import Path
from typing import Any

from flwr.common import NDArray, log
from safetensors import safe_open
from safetensors.numpy import load, save

from efmodel import atomic_file
from server_app.strategy.node import Node


@dataclass
class Checkpoint:
    """A run after one of its rounds."""

    round: int
    strategy: str  # its name in the run config: moments of another mean nothing to it
    arrays: dict[str, NDArray]
    moments: dict[str, dict[str, NDArray]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    wer: list[float] = field(default_factory=list)  # per exit; empty where it was not measured


class Checkpoints:
    """The checkpoints of a run: the last ones, and the best one by mean WER over the exits.

    Parameters
    ----------
    folder : Path
        Where they are; made when needed.
    keep : int
        How many of the last ones to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and remove those no longer kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model/{name}": array for name, array in checkpoint.arrays.items()}
        for kind, moments in checkpoint.moments.items():
            tensors |= {f"moments/{kind}/{name}": array for name, array in moments.items()}
        about = {
            "round": checkpoint.round,
            "strategy": checkpoint.strategy,
            "nodes": [asdict(node) for node in checkpoint.nodes],
            "wer": checkpoint.wer,
        }
        data = save(tensors, metadata={"about": json.dumps(about)})
        path = self.folder / f"round-{checkpoint.round:05d}.safetensors"
        atomic_file.write(path, data)
        digest = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
        atomic_file.write(path.with_suffix(".sha256"), digest.encode())
        self._prune()

    def latest(self) -> Checkpoint | None:
        """Return the last whole checkpoint, or None; those torn or tampered with are named."""
        for path in reversed(self.paths()):
            data = path.read_bytes()
            if not _is_whole(path, data):
                log(WARNING, "%s: does not match its .sha256, looking for an older one", path)
                continue
            return _read(path, data)
        return None

    def paths(self) -> list[Path]:
        """Return the files, oldest first, whole or not."""
        return sorted(self.folder.glob("round-*.safetensors"))

    def best(self) -> Path | None:
        """Return the file with the lowest mean WER over the exits, the later of equals."""
        rated = []
        for path in self.paths():
            if wer := _about(path)["wer"]:
                rated.append((sum(wer) / len(wer), path))
        return min(rated, key=lambda pair: (pair[0], -_round(pair[1])))[1] if rated else None

    def _prune(self) -> None:
        best = self.best()
        for path in self.paths()[: -self.keep]:
            if path != best:
                path.with_suffix(".sha256").unlink(missing_ok=True)
                path.unlink()
        for abandoned in self.folder.glob(f"*{atomic_file.PART}"):  # by a run that was killed
            abandoned.unlink()


def _is_whole(path: Path, data: bytes) -> bool:
    try:
        digest = path.with_suffix(".sha256").read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        return False
    return digest == [hashlib.sha256(data).hexdigest()]


def _read(path: Path, data: bytes) -> Checkpoint:
    about = _about(path)
    arrays: dict[str, NDArray] = {}
    moments: dict[str, dict[str, NDArray]] = {}
    for name, array in load(data).items():
        kind, _, rest = name.partition("/")
        if kind == "model":
            arrays[rest] = array
        else:
            moment, _, tensor = rest.partition("/")
            moments.setdefault(moment, {})[tensor] = array
    return Checkpoint(
        round=about["round"],
        strategy=about["strategy"],
        arrays=arrays,
        moments=moments,
        nodes=[Node(**node) for node in about["nodes"]],
        wer=about["wer"],
    )


def _about(path: Path) -> dict[str, Any]:
    """Return what a file's header says; nothing where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads(file.metadata()["about"]))
    except Exception:  # torn: safetensors raises an error of its own, json others
        return {"wer": []}


def _round(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
