"""What the frozen part of a model gives for each utterance, kept on the node's disk.

A frozen part gives the same output for the same audio in every epoch and every round, and may cost
more than all that is trained behind it: it is computed once. float16, memory-mapped, bounded.
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
from efmodel.speech.utterances import Utterance, collate


class FeatureCache:
    """Arrays by name in a folder; when all of them together grow too large, other folders go first.

    Parameters
    ----------
    folder : Path
        Of one set of weights; its siblings belong to others.
    limit : int
        Bytes that all siblings may have together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.writable = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # used now: the siblings that were not are the first to go
        except OSError as error:
            self._give_up(error)
        self.bytes = _bytes_in(folder.parent)

    def get(self, name: str) -> NDArray | None:
        """Return an array, memory-mapped, or None if it is not there or torn."""
        path = self.folder / f"{name}.npy"
        try:
            array: NDArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array

    def put(self, name: str, array: NDArray) -> None:
        """Keep an array, unless the disk is full, or its share used up by this folder alone."""
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
            self._give_up(error)
            return
        self.bytes += array.nbytes

    def _give_up(self, error: OSError) -> None:
        log(WARNING, "cache: %s; what is not kept is computed again in each round", error)
        self.writable = False

    def _make_room(self, wanted: int) -> None:
        siblings = [each for each in self.folder.parent.iterdir() if each != self.folder]
        for oldest in sorted(siblings, key=lambda each: each.stat().st_mtime):
            if self.bytes + wanted <= self.limit:
                break
            shutil.rmtree(oldest, ignore_errors=True)
            self.bytes = _bytes_in(self.folder.parent)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))


class FrozenFeatures:
    """Batches for a model whose front is frozen: the frozen part's output in place of samples.

    Parameters
    ----------
    model : EarlyExitForCTC
        Whose frozen part it is.
    depth : int
        How deep it reaches: 0 for the front end, or an encoder layer.
    cache : FeatureCache, optional
        Where outputs are kept; without, they are computed anew each time.
    """

    def __init__(self, model: EarlyExitForCTC, depth: int, cache: FeatureCache | None) -> None:
        self.model = model
        self.depth = min(depth, model.config.num_hidden_layers)
        self.cache = cache

    def __call__(self, utterances: Iterable[Utterance]) -> dict[str, Any]:
        """Return one batch for the model: ``frozen`` and ``labels``."""
        batch = list(utterances)
        names = [hashlib.sha256(each.samples.numpy().tobytes()).hexdigest()[:32] for each in batch]
        known = {name: self.cache.get(name) for name in names} if self.cache else {}
        missing = [i for i, name in enumerate(names) if known.get(name) is None]
        states: dict[int, Tensor] = {}
        if missing:
            states = dict(zip(missing, self._compute([batch[i] for i in missing]), strict=True))
        for i, name in enumerate(names):
            found = known.get(name)
            if i not in states:
                states[i] = torch.from_numpy(np.asarray(found).astype(np.float32))
            elif self.cache is not None:
                self.cache.put(name, states[i].numpy().astype(np.float16))
        each = [states[i].transpose(0, 1) for i in range(len(batch))]  # [frames, states, size]
        padded = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
        lengths = torch.tensor([len(one) for one in each])
        output = FrozenOutput(self.depth, padded.permute(2, 0, 1, 3), lengths)
        return {"frozen": output, "labels": collate(batch)["labels"]}

    def _compute(self, batch: Sequence[Utterance]) -> list[Tensor]:
        """Return each utterance's own ``[states, frames, size]``, rounded as the cache rounds."""
        inputs = collate(batch)
        device = self.model.device
        output = self.model.frozen_output(
            inputs["input_values"].to(device), inputs["attention_mask"].to(device), self.depth
        )
        largest = torch.finfo(torch.float16).max
        states = output.states.clamp(-largest, largest).half().float().cpu()
        return [states[:, i, :length].clone() for i, length in enumerate(output.lengths.tolist())]
