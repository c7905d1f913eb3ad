"""The frozen part of a model: tensors that a run does not train.

``freeze = "frontend"`` freezes wav2vec2's feature encoder (or the mel convolutions), ``"layers:4"``
everything up to encoder layer 4. ``train = "heads"`` trains the exits' heads only, ``train =
"lora"`` the heads and LoRA adapters in the layers (Hu et al., arXiv 2106.09685).

The server sends frozen tensors to a node once; the node keeps them on its disk and never returns
them. The output of fully frozen layers does not change either: they run without dropout, and the
client caches their output (``client_app.cache.features``).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from efmodel.model.cutting import layer_number

if TYPE_CHECKING:  # flwr takes a second to import; a model without messages does not need it
    from flwr.app import Array

NOTHING, FRONTEND = -1, 0  # depths below layer 1


@dataclass(frozen=True)
class Frozen:
    """The frozen part of a model.

    Attributes
    ----------
    depth : int
        Depth up to which everything is frozen, so that the output never changes: -1 nothing,
        0 the front end, N everything up to encoder layer N.
    adapters_only : bool
        Whether only LoRA adapters and heads are trained in the layers after ``depth``.
    """

    depth: int = NOTHING
    adapters_only: bool = False

    def holds(self, name: str) -> bool:
        """Return whether the tensor ``name`` is frozen."""
        if name.startswith("exits."):
            return False
        if self.adapters_only:
            return ".lora_" not in name or self._within_depth(name)
        return self._within_depth(name)

    def keep(self, model: nn.Module) -> None:
        """Turn off the gradients of the model's frozen parameters, and on those of all others."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not self.holds(name)

    def _within_depth(self, name: str) -> bool:
        if name.startswith("feature_extractor."):
            return self.depth >= FRONTEND
        # Projection and position count as layer 1.
        return (layer_number(name) or 1) <= self.depth


@dataclass(frozen=True)
class FrozenOutput:
    """The output of a model's first part for a batch, from which ``forward`` can go on.

    Attributes
    ----------
    depth : int
        0 for the front end, or the number of the last encoder layer.
    states : Tensor
        ``[1, batch, frames, features]`` of the front end, or ``[states, batch, frames, hidden]``:
        the hidden states at the exits up to ``depth``, then the last layer's if it has no exit.
    lengths : Tensor
        ``[batch]``, the number of frames of each utterance.
    """

    depth: int
    states: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "FrozenOutput":
        """Return a copy on ``device``."""
        return replace(self, states=self.states.to(device), lengths=self.lengths.to(device))


def parse(freeze: str, train: str, num_layers: int) -> Frozen:
    """Return the frozen part that the run config's ``freeze`` and ``train`` describe.

    Raises
    ------
    ValueError
        If ``freeze`` is malformed or names a layer that the model does not have.
    """
    depth = _depth(freeze, num_layers)
    if train == "heads":
        return Frozen(num_layers)
    if train == "lora":
        return Frozen(max(depth, FRONTEND), adapters_only=True)
    return Frozen(depth)


def _depth(freeze: str, num_layers: int) -> int:
    if freeze in ("", "frontend"):
        return FRONTEND if freeze else NOTHING
    kind, _, number = freeze.partition(":")
    if kind != "layers" or not number.isdigit() or not 1 <= int(number) <= num_layers:
        wanted = f"wanted nothing, frontend, or layers:1 to layers:{num_layers}"
        raise ValueError(f"freeze: found {freeze!r}, {wanted}")
    return int(number)


def digest(arrays: "Mapping[str, Array]", frozen_names: Iterable[str]) -> str:
    """Return a hash of the frozen tensors, by which nodes and server identify them."""
    sha = hashlib.sha256()
    for name in sorted(frozen_names):
        sha.update(name.encode() + arrays[name].data)
    return sha.hexdigest()[:16]
