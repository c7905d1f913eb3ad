"""Logits of long recordings: overlapping windows, joined in the middle of each overlap.

Texts of windows cannot be joined without mistakes at the seams, logits can. Memory for the model's
work does not grow with the recording.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.model.early_exit import EarlyExitForCTC

WINDOW = 30.0  # seconds, as the longest recording that is evaluated in one piece
OVERLAP = 3.0  # seconds that two windows share; the outer half of it is dropped on each side


@torch.no_grad()
def joined_logits(model: EarlyExitForCTC, samples: Tensor) -> list[Tensor]:
    """Return the logits ``[frames, vocab]`` of a recording at every exit.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode.
    samples : Tensor
        ``[samples]`` at 16 kHz.
    """
    parts: list[list[Tensor]] = [[] for _ in range(model.config.num_exits)]
    for start, kept_from, kept_to in windows(len(samples)):
        window = samples[start : start + round(WINDOW * SAMPLE_RATE)]
        output = model(window[None].to(model.device))
        first, last = frame_at(model, kept_from - start), frame_at(model, kept_to - start)
        if kept_to == len(samples):
            last = int(output.lengths[0])
        for part, logits in zip(parts, output.logits, strict=True):
            part.append(logits[0, first:last].cpu())
    return [torch.cat(part) for part in parts]


def windows(num_samples: int) -> Iterator[tuple[int, int, int]]:
    """Yield each window's first sample, and the samples from and to which its logits are kept.

    What is kept of the windows covers the recording once.
    """
    length, overlap = round(WINDOW * SAMPLE_RATE), round(OVERLAP * SAMPLE_RATE)
    start, kept_from = 0, 0
    while start + length < num_samples:
        kept_to = start + length - overlap // 2
        yield start, kept_from, kept_to
        start, kept_from = start + length - overlap, kept_to
    yield start, kept_from, num_samples


def frame_at(model: EarlyExitForCTC, sample: int) -> int:
    """Return the number of frames that begin before a sample, where windows are joined."""
    return sample // model.config.samples_per_frame
