"""What a run leaves as it is: which tensors, and how deep their output reaches.

``freeze = "frontend"`` is wav2vec2's feature encoder (or the mel convolutions); ``"layers:4"`` all
up to encoder layer 4; ``train = "heads"`` all but the exits' heads; ``train = "lora"`` all but the
heads and low-rank additions to the layers (Hu et al., arXiv 2106.09685).

Frozen tensors travel once to a node, which keeps them on its disk, and never back. Nor does their
output change: what lies wholly in the frozen part is run without dropout, and its output kept too
(``client_app.cache.features``).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from flwr.app import Array
from torch import Tensor, nn

NOTHING, FRONTEND = -1, 0  # depths below layer 1

_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Frozen:
    """The frozen part of a run's models.

    Attributes
    ----------
    depth : int
        What lies wholly in it and so always gives the same output: -1 nothing, 0 the front end,
        N all up to encoder layer N.
    only_added : bool
        Whether of what lies behind it only heads and low-rank additions are trained.
    """

    depth: int = NOTHING
    only_added: bool = False

    def holds(self, name: str) -> bool:
        """Return whether a tensor of the model is never trained."""
        if name.startswith("exits."):
            return False
        if self.only_added:
            return ".lora_" not in name or self._in_depth(name)
        return self._in_depth(name)

    def keep(self, model: nn.Module) -> None:
        """Let no gradient reach what is never trained."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not self.holds(name)

    def _in_depth(self, name: str) -> bool:
        if name.startswith("feature_extractor."):
            return self.depth >= FRONTEND
        match = _LAYER.match(name)
        layer = int(match[1]) + 1 if match else 1  # projection and position go with layer 1
        return layer <= self.depth


@dataclass(frozen=True)
class FrozenOutput:
    """What a frozen part gives for a batch, which never changes while its weights do not.

    Attributes
    ----------
    depth : int
        0 for the front end, or the encoder layer that was last.
    states : Tensor
        ``[1, batch, frames, features]`` of the front end, or ``[states, batch, frames, hidden]``:
        the hidden states at the exits so far, then the last layer's, if no exit stands there.
    lengths : Tensor
        ``[batch]``, each utterance's own frames.
    """

    depth: int
    states: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "FrozenOutput":
        """Return the same on a device."""
        return replace(self, states=self.states.to(device), lengths=self.lengths.to(device))


def parse(freeze: str, train: str, num_layers: int) -> Frozen:
    """Return what the run config's ``freeze`` and ``train`` leave as it is.

    Raises
    ------
    ValueError
        If they cannot be read, or name a layer that the model does not have.
    """
    depth = _depth(freeze, num_layers)
    if train == "heads":
        return Frozen(num_layers)
    if train == "lora":
        return Frozen(max(depth, FRONTEND), only_added=True)
    return Frozen(depth)


def _depth(freeze: str, num_layers: int) -> int:
    if freeze in ("", "frontend"):
        return FRONTEND if freeze else NOTHING
    kind, _, number = freeze.partition(":")
    if kind != "layers" or not number.isdigit() or not 1 <= int(number) <= num_layers:
        wanted = f"wanted nothing, frontend, or layers:1 to layers:{num_layers}"
        raise ValueError(f"freeze: found {freeze!r}, {wanted}")
    return int(number)


def digest(arrays: Mapping[str, Array], frozen_names: Iterable[str]) -> str:
    """Return a hash of the frozen tensors: the same name for the same weights, on every node."""
    sha = hashlib.sha256()
    for name in sorted(frozen_names):
        sha.update(name.encode() + arrays[name].data)
    return sha.hexdigest()[:16]
