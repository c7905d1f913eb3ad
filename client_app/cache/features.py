"""The output of a model's frozen part for each utterance, cached on the node's disk.

A frozen part gives the same output for the same audio in every epoch and round, and may cost more
time than the trained layers. It is computed once, and kept as float16, memory-mapped, within a
limit in bytes.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.common import NDArray, log
from torch import Tensor

from efmodel import atomic_file
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frozen import FrozenOutput
from efmodel.speech.batches import collate
from efmodel.speech.utterances import Utterance


class FeatureCache:
    """Arrays by name in a folder, one folder for each set of weights.

    When all folders together exceed the limit, the folders that were not used for longest are
    deleted.

    Parameters
    ----------
    folder : Path
        The arrays of one set of weights; its siblings belong to other weights.
    limit : int
        Bytes that the folder and its siblings may have together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.writable = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # marks it as used now
        except OSError as error:
            self._stop_writing(error)
        self.bytes = _bytes_in(folder.parent)

    def get(self, name: str) -> NDArray | None:
        """Return an array, memory-mapped; None if it is missing or its file is incomplete."""
        path = self.folder / f"{name}.npy"
        try:
            array: NDArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array

    def put(self, name: str, array: NDArray) -> None:
        """Keep an array, unless the disk is full or this folder alone fills the limit."""
        if not self.writable:
            return
        if self.bytes + array.nbytes > self.limit:
            self._make_room(array.nbytes)
        if self.bytes + array.nbytes > self.limit:
            return
        file = io.BytesIO()
        np.save(file, array)
        try:
            atomic_file.write(self.folder / f"{name}.npy", file.getvalue())
        except OSError as error:
            self._stop_writing(error)
            return
        self.bytes += array.nbytes

    def _stop_writing(self, error: OSError) -> None:
        log(WARNING, "cache: cannot write (%s); outputs are computed again in each round", error)
        self.writable = False

    def _make_room(self, num_bytes: int) -> None:
        siblings = [folder for folder in self.folder.parent.iterdir() if folder != self.folder]
        for oldest in sorted(siblings, key=lambda folder: folder.stat().st_mtime):
            if self.bytes + num_bytes <= self.limit:
                break
            shutil.rmtree(oldest, ignore_errors=True)
            self.bytes = _bytes_in(self.folder.parent)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))


class FrozenFeatures:
    """Make batches that hold the frozen part's output in place of samples.

    Parameters
    ----------
    model : EarlyExitForCTC
        The model with the frozen part.
    depth : int
        The last frozen layer: 0 for the front end, or an encoder layer.
    cache : FeatureCache, optional
        Where outputs are kept; without it they are computed each time.
    """

    def __init__(self, model: EarlyExitForCTC, depth: int, cache: FeatureCache | None) -> None:
        self.model = model
        self.depth = min(depth, model.config.num_hidden_layers)
        self.cache = cache

    def __call__(self, utterances: Iterable[Utterance]) -> dict[str, Any]:
        """Return one batch for the model: ``frozen`` and ``labels``."""
        batch = list(utterances)
        outputs = [states.transpose(0, 1) for states in self._outputs(batch)]  # (S,T,C)->(T,S,C)
        padded = torch.nn.utils.rnn.pad_sequence(outputs, batch_first=True)  # [B, T, S, C]
        lengths = torch.tensor([len(output) for output in outputs])
        frozen = FrozenOutput(self.depth, padded.permute(2, 0, 1, 3), lengths)
        return {"frozen": frozen, "labels": collate(batch)["labels"]}

    def _outputs(self, batch: Sequence[Utterance]) -> list[Tensor]:
        """Return each utterance's output ``[states, frames, size]``, cached or computed."""
        if self.cache is None:
            return self._compute(batch)
        names = [hashlib.sha256(u.samples.numpy().tobytes()).hexdigest()[:32] for u in batch]
        arrays = [self.cache.get(name) for name in names]
        missing = [i for i, array in enumerate(arrays) if array is None]
        computed: dict[int, Tensor] = {}
        if missing:
            new = self._compute([batch[i] for i in missing])
            computed = dict(zip(missing, new, strict=True))
        for i, states in computed.items():
            self.cache.put(names[i], states.numpy().astype(np.float16))
        return [
            computed[i] if array is None else torch.from_numpy(array.astype(np.float32))
            for i, array in enumerate(arrays)
        ]

    def _compute(self, batch: Sequence[Utterance]) -> list[Tensor]:
        """Return each utterance's output ``[states, frames, size]``, rounded to float16."""
        inputs = collate(batch)
        device = self.model.device
        output = self.model.frozen_output(
            inputs["input_values"].to(device), inputs["attention_mask"].to(device), self.depth
        )
        largest = torch.finfo(torch.float16).max
        states = output.states.clamp(-largest, largest).half().float().cpu()
        return [states[:, i, :length].clone() for i, length in enumerate(output.lengths.tolist())]
