"""Checkpoints of the paper's authors: early-exit wav2vec2 by github.com/augustgw/wav2vec2-ee.

Each is a ``Wav2Vec2ForCTC`` with a list ``decoders`` of linear layers, one for the output of every
second encoder layer. In that code all of them are ``lm_head``, under six more names. A
``pytorch_model.bin`` has every name; safetensors, which store a shared tensor once, have
``lm_head`` alone.
"""

import re

from torch import Tensor
from transformers import PretrainedConfig

from efmodel.errors import UserError
from efmodel.model.weights import stored_tensors

ARCHITECTURES = {
    f"{kind}Wav2Vec2ForCTC"
    for kind in (
        "EE",
        "KDEE",
        "NewKDEE",
        "DKDEE",
        "Confidence",
        "ManualExitActivation",
        "ManualExitActivationConfidence",
    )
}
LAYERS_PER_EXIT = 2
EXITS = 6  # where the file does not tell
_DECODER = re.compile(r"decoders\.(\d+)\.(weight|bias)")  # numbered from 0


def exit_layers(name: str, source: PretrainedConfig) -> list[int]:
    """Return the layers (from 1) of a checkpoint's exits; none if it is of another kind.

    Parameters
    ----------
    name : str
        Hub name or local folder.
    source : PretrainedConfig
        Its configuration.

    Raises
    ------
    UserError
        If its layers normalise their input: its exits then lack the norm that each exit has here.
    """
    if ARCHITECTURES.isdisjoint(source.architectures or []):
        return []
    if source.do_stable_layer_norm:
        raise UserError(
            f"model: found do_stable_layer_norm = True in {name}, wanted False, as in wav2vec2-base"
        )
    stored = {int(match[1]) for key in stored_tensors(name) if (match := _DECODER.fullmatch(key))}
    return [LAYERS_PER_EXIT * exit for exit in range(1, (len(stored) or EXITS) + 1)]


def heads(name: str, source: PretrainedConfig) -> dict[int, dict[str, Tensor]]:
    """Return a checkpoint's heads: ``{layer: {"weight": ..., "bias": ...}}``, in float32.

    There are none where they are ``lm_head``, and in a checkpoint of another kind.
    """
    found: dict[int, dict[str, Tensor]] = {}
    if exit_layers(name, source):
        for key, tensor in stored_tensors(name, device="cpu").items():
            if match := _DECODER.fullmatch(key):
                layer = LAYERS_PER_EXIT * (int(match[1]) + 1)
                found.setdefault(layer, {})[match[2]] = tensor.float()
    return found
