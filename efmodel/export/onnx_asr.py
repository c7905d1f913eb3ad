"""The layout of the library onnx-asr: one exit as one graph, for programs that use that library.

It is the one of its model type ``wav2vec2-ctc``: ``model.onnx`` takes a batch of waveforms and
gives log-probabilities, ``vocab.txt`` has a line for each label, ``config.json`` names the type.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from efmodel.decoding.words import Tokens
from efmodel.export.folder import ExportError
from efmodel.export.graphs import exportable, stages
from efmodel.export.int8 import quantise_graph
from efmodel.export.onnx import (
    TOLERANCE,
    TRACED_SAMPLES,
    TRACED_UTTERANCES,
    batches,
    make_folder,
    trace,
)
from efmodel.export.runtime import graph, padded
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frames import frame_mask
from efmodel.model.stages import Engine

MODEL, INT8 = "model.onnx", "model.int8.onnx"
SPACE, BLANK = "\N{LOWER ONE EIGHTH BLOCK}", "<blk>"  # as the library spells them


def export(
    model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase, folder: Path, int8: bool = False
) -> float:
    """Write a model's deepest exit; return the largest difference of a log-probability from torch.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        The model's.
    folder : Path
        A new or an empty folder.
    int8 : bool
        Whether to write a second graph, with eight-bit weights: the library's
        ``quantization="int8"`` chooses it.

    Raises
    ------
    ExportError
        If there is anything in the folder, a token cannot be written, or the graph does not say
        what torch says.
    """
    lines = vocabulary(Tokens.of(tokenizer))
    make_folder(folder)
    values = torch.zeros(TRACED_UTTERANCES, TRACED_SAMPLES)
    trace(Whole(model), values, folder / MODEL, ["input_values", "input_lengths"], ["logprobs"])
    difference = compare(Engine(model), graph(folder / MODEL))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{folder / MODEL}: found log-probabilities that differ from torch's by "
            f"{difference:.2g}, wanted at most {TOLERANCE}"
        )
    if int8:
        quantise_graph(folder / MODEL, folder / INT8)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")
    config = {"model_type": "wav2vec2-ctc", "subsampling_factor": model.config.samples_per_frame}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return difference


class Whole(nn.Module):
    """All stages in a row.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode.
    """

    def __init__(self, model: EarlyExitForCTC) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages(exportable(model)))
        self.blank = int(model.config.pad_token_id)
        self.eval()

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Return the last exit's log-probabilities ``[batch, frames, vocab]``.

        Frames behind an utterance's end are blank: the library rounds the number of frames up.

        Parameters
        ----------
        samples : Tensor
            ``[batch, samples]`` at 16 kHz.
        lengths : Tensor
            ``[batch]``, the number of samples of each utterance.
        """
        first, *others = self.stages
        hidden, frames, log_probs = first(samples, lengths)
        for stage in others:
            hidden, log_probs = stage(hidden, frames)
        behind = ~frame_mask(frames, log_probs.shape[1])[:, :, None]  # [batch, frames, 1]
        blank = torch.arange(log_probs.shape[2]) == self.blank  # [vocab]
        certain = torch.where(blank, 0.0, -100.0)
        return torch.where(behind, certain, log_probs)


def vocabulary(tokens: Tokens) -> list[str]:
    """Return a line ``token label`` for each label; what is not written is an empty token.

    Raises
    ------
    ExportError
        If a token has white space in it: the library takes a space for the end of the token.
    """
    lines = []
    for label, token in enumerate(tokens.tokens):
        spelt = "" if label in tokens.silent else token.replace(tokens.space, SPACE)
        if label == tokens.blank:
            spelt = BLANK
        elif spelt.split() not in ([], [spelt]):
            raise ExportError(f"vocabulary: found the token {token!r}, wanted no white space in it")
        lines.append(f"{spelt} {label}")
    return lines


def compare(engine: Engine, session: Any) -> float:
    """Return the largest difference of a log-probability from the deepest exit's in torch."""
    largest = 0.0
    for batch in batches(engine):
        samples, lengths = padded(batch)
        inputs = {"input_values": samples, "input_lengths": lengths}
        found: Sequence[NDArray[np.float32]] = session.run(["logprobs"], inputs)[0]
        for one, other in zip(engine.start(batch).advance(to=engine.num_exits), found, strict=True):
            largest = max(largest, float(np.abs(one - other[: len(one)]).max()))
    return largest
