"""A batch on its way through the model, stage by stage.

Stage ``e`` is what lies between exit ``e - 1`` and exit ``e``: layers and a head; stage 1 begins
with the front end. Layers behind the stage at which an utterance stops are never run for it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efmodel.model.early_exit import EarlyExitForCTC


class Engine:
    """A model of torch that runs in stages, for :mod:`efmodel.decoding`.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode, on any device.
    """

    def __init__(self, model: EarlyExitForCTC) -> None:
        self.num_exits = model.config.num_exits
        self.exit_layers: Sequence[int] = tuple(model.config.exit_layers)
        self.samples_per_frame = model.config.samples_per_frame
        self.blank = int(model.config.pad_token_id)
        self.num_frames = model.config.num_frames
        self._model = model

    def start(self, batch: Sequence[NDArray[np.float32]]) -> "Stages":
        """Return the stages of a batch, none of which has run."""
        return Stages(self._model, batch)


class Stages:
    """Runs a batch of utterances through a model, one stage at a time.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode.
    batch : Sequence of ndarray
        Samples ``[samples]`` at 16 kHz, float32, of each utterance; each gives at least one frame.

    Attributes
    ----------
    exit : int
        The exit that was reached, from 1; 0 at the start.
    """

    def __init__(self, model: EarlyExitForCTC, batch: Sequence[NDArray[np.float32]]) -> None:
        self.exit = 0
        self._model = model
        waveforms = [torch.from_numpy(np.ascontiguousarray(samples)) for samples in batch]
        padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        sizes = torch.tensor([len(samples) for samples in batch])
        self._input = padded.to(model.device)
        self._mask = (torch.arange(padded.shape[1]) < sizes[:, None]).long().to(model.device)
        self._hidden: Tensor  # [utterances on the way, frames, hidden]
        self._lengths: Tensor  # [utterances on the way], in frames

    @torch.inference_mode()
    def advance(self, to: int | None = None) -> list[NDArray[np.float32]]:
        """Run the next stage, or all up to exit ``to``; of their heads only the last one is run.

        Returns log-probabilities ``[frames, vocab]`` of each utterance on the way.
        """
        model = self._model
        layers = [0, *model.config.exit_layers]
        after, self.exit = layers[self.exit], to or self.exit + 1
        if after == 0:
            self._hidden, self._lengths = model.first_layer_input(self._input, self._mask)
        _, self._hidden = model.encoder.run_layers(
            self._hidden, self._lengths, after=after, last=layers[self.exit]
        )
        log_probs = model.exits[str(self.exit)](self._hidden).log_softmax(-1).cpu().numpy()
        lengths = self._lengths.tolist()
        return [frames[:length] for frames, length in zip(log_probs, lengths, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only: positions among those still on the way."""
        if len(rows) == len(self._lengths):
            return
        indices = torch.tensor(rows, device=self._hidden.device)
        self._lengths = self._lengths[indices]
        longest = int(self._lengths.max())  # the padding of longer utterances goes with them
        self._hidden = self._hidden[indices, :longest]
