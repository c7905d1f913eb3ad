"""Checkpoints: everything that a run needs to resume after a round as if it had never stopped.

A checkpoint is two files: ``round-00012.safetensors`` (the model and the server optimizer's
moments, with the rest in its header) and ``round-00012.sha256``, which ``sha256sum -c`` reads. The
second is written once the first is safely on disk; a checkpoint without it, or with a hash that
does not match, is ignored. Once the round is scored, ``round-00012.wer`` has its WER at each exit.
No random state is kept: cohorts and clients are drawn from the seed and the round.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord
from flwr.common import NDArray, log
from safetensors import safe_open
from safetensors.numpy import load, save

from efmodel import atomic_file
from efmodel.settings import Settings, SettingsError
from server_app.strategy.base import RunStrategy
from server_app.strategy.node import Node

SCORE = ".wer"  # suffix of the file with a checkpoint's score


@dataclass
class Checkpoint:
    """A run after one of its rounds."""

    round: int
    strategy: str  # as in the run config: another strategy cannot use its moments
    arrays: dict[str, NDArray]
    moments: dict[str, dict[str, NDArray]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    wer: list[float] = field(default_factory=list)  # per exit; empty if it was not evaluated yet
    record: dict[str, Any] = field(default_factory=dict)  # what metrics.jsonl will say of the round


class Checkpoints:
    """The checkpoints of a run: the last ones, and the best one by mean WER over the exits.

    Parameters
    ----------
    folder : Path
        Created when the first one is saved.
    keep : int
        Number of latest checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint atomically, and remove those that are no longer kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model/{name}": array for name, array in checkpoint.arrays.items()}
        for kind, moments in checkpoint.moments.items():
            tensors |= {f"moments/{kind}/{name}": array for name, array in moments.items()}
        about = {
            "round": checkpoint.round,
            "strategy": checkpoint.strategy,
            "nodes": [asdict(node) for node in checkpoint.nodes],
            "wer": checkpoint.wer,
            "record": checkpoint.record,
        }
        data = save(tensors, metadata={"about": json.dumps(about)})
        path = self._path(checkpoint.round)
        atomic_file.write(path, data)
        digest = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
        atomic_file.write(path.with_suffix(".sha256"), digest.encode())
        self._prune()

    def score(self, server_round: int, wer: list[float]) -> None:
        """Note the WER at each exit of a round that is saved already."""
        path = self._path(server_round).with_suffix(SCORE)
        atomic_file.write(path, json.dumps(wer).encode())
        self._prune()

    def latest(self) -> Checkpoint | None:
        """Return the last undamaged checkpoint, or None; log those that are damaged."""
        for path in reversed(self.paths()):
            data = path.read_bytes()
            if not _is_whole(path, data):
                log(WARNING, "%s: does not match its .sha256, looking for an older one", path)
                continue
            return _read(path, data)
        return None

    def _path(self, server_round: int) -> Path:
        return self.folder / f"round-{server_round:05d}.safetensors"

    def paths(self) -> list[Path]:
        """Return all files, oldest first, damaged or not."""
        return sorted(self.folder.glob("round-*.safetensors"))

    def best(self) -> Path | None:
        """Return the file with the lowest mean WER over the exits; of equals the latest."""
        scored = []
        for path in self.paths():
            if wer := _wer(path):
                scored.append((sum(wer) / len(wer), path))
        return min(scored, key=lambda pair: (pair[0], -_round(pair[1])))[1] if scored else None

    def load_best(self) -> Checkpoint | None:
        """Return the undamaged checkpoint with the lowest mean WER; None if there is none."""
        path = self.best()
        data = path.read_bytes() if path else b""
        return _read(path, data) if path and _is_whole(path, data) else None

    def _prune(self) -> None:
        best = self.best()
        for path in self.paths()[: -self.keep]:
            if path != best:
                for suffix in (".sha256", SCORE):
                    path.with_suffix(suffix).unlink(missing_ok=True)
                path.unlink()
        for abandoned in self.folder.glob(f"*{atomic_file.PART}"):  # left by a run that was killed
            abandoned.unlink()


def resumed(
    checkpoints: Checkpoints, settings: Settings, strategy: RunStrategy, start: ArrayRecord
) -> tuple[ArrayRecord, int]:
    """Restore a strategy from a run's last checkpoint.

    Parameters
    ----------
    checkpoints : Checkpoints
        The run's checkpoints.
    settings : Settings
        The run config.
    strategy : RunStrategy
        The strategy to restore.
    start : ArrayRecord
        The model that a new run would start from.

    Returns
    -------
    arrays : ArrayRecord
        The model to continue with.
    after : int
        The last finished round; 0 if none was.

    Raises
    ------
    SettingsError
        If all checkpoints are damaged, or the last one is of another model or strategy.
    """
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        if checkpoints.paths():
            raise SettingsError(f"resume: found no whole checkpoint in {checkpoints.folder}")
        log(WARNING, "resume: no round was finished, starting at round 1")
        return start, 0
    shapes = {name: array.shape for name, array in checkpoint.arrays.items()}
    if shapes != {name: tuple(array.shape) for name, array in start.items()}:
        raise SettingsError(f"resume: found a checkpoint of another model, wanted {settings.model}")
    if checkpoint.strategy != settings.strategy:
        wanted = f"wanted {settings.strategy}"
        raise SettingsError(f"resume: found a checkpoint of {checkpoint.strategy}, {wanted}")
    strategy.restore(checkpoint.moments, checkpoint.nodes)
    log(INFO, "resuming after round %d", checkpoint.round)
    arrays = {name: Array(checkpoint.arrays[name]) for name in start}  # in the model's order
    return ArrayRecord(arrays), checkpoint.round


def _is_whole(path: Path, data: bytes) -> bool:
    try:
        digest = path.with_suffix(".sha256").read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        return False
    return digest == [hashlib.sha256(data).hexdigest()]


def _read(path: Path, data: bytes) -> Checkpoint:
    header = _header(path)
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
        round=header["round"],
        strategy=header["strategy"],
        arrays=arrays,
        moments=moments,
        nodes=[Node(**node) for node in header["nodes"]],
        wer=_wer(path),
        record=header.get("record", {}),  # version 0.2.0 has none
    )


def _wer(path: Path) -> list[float]:
    """Return the WER at each exit of a checkpoint; empty if it was not evaluated."""
    wer: list[float] = []
    try:
        wer = json.loads(path.with_suffix(SCORE).read_bytes())
    except (OSError, ValueError):  # version 0.2.0 keeps it in the checkpoint itself
        wer = _header(path)["wer"]
    return wer


def _header(path: Path) -> dict[str, Any]:
    """Return a file's header; one without WER where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads(file.metadata()["about"]))
    except Exception:  # damaged: safetensors and json raise errors of their own
        return {"wer": []}


def _round(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
