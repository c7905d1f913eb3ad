"""The encoder: positional embedding and a stack of layers, with the hidden state at each exit."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioPositionalConvEmbedding,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2EncoderLayer,
    Wav2Vec2EncoderLayerStableLayerNorm,
    Wav2Vec2PositionalConvEmbedding,
)
from transformers.models.wavlm.modeling_wavlm import (
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
)

from efmodel.config import EarlyExitConfig
from efmodel.model.conformer import ConformerLayer, SinusoidalPosition
from efmodel.model.frames import frame_mask
from efmodel.model.precision import autocast


class StackedPositionalConv(Data2VecAudioPositionalConvEmbedding):  # type: ignore[misc]
    """Data2VecAudio's positional convolutions, with the padding set to zero before each."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return positions ``[batch, frames, hidden]``; ``mask`` is ``[batch, frames]``."""
        mask = mask[:, None, :]
        hidden = hidden.transpose(1, 2)  # (B, T, C) -> (B, C, T)
        for layer in self.layers:
            hidden = layer(hidden * mask)
        return hidden.transpose(1, 2)


class PositionalConv(Wav2Vec2PositionalConvEmbedding):  # type: ignore[misc]
    """wav2vec2's positional convolution, in float32 on a CPU.

    On CPUs with bfloat16 matrices (AMX) the oneDNN of torch 2.11 returns wrong values for bfloat16,
    an even kernel and an even number of 4 to 14 channels in a group. The size ``small`` has 12.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Return positions ``[batch, frames, hidden]`` for frames of that shape."""
        if hidden.device.type != "cpu":
            return super().forward(hidden)  # type: ignore[no-any-return]
        conv = self.conv
        with autocast(hidden.device, "float32"):
            positions = functional.conv1d(
                hidden.transpose(1, 2).float(), conv.weight.float(), conv.bias.float(),
                padding=conv.padding, groups=conv.groups,
            )  # fmt: skip
        positions = self.activation(self.padding(positions))
        result: Tensor = positions.transpose(1, 2).to(hidden.dtype)
        return result


class EarlyExitEncoder(nn.Module):
    """Positional embedding and encoder layers under wav2vec2's names."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_conv_embed = position_embedding(config)
        # A pre-norm stack ends in a norm, which is part of each exit; a post-norm stack begins
        # with one.
        self.layer_norm: nn.Module = nn.Identity()
        if not (config.has_pre_norm or config.layer_type == "conformer"):
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        indices = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(encoder_layer(config, index) for index in indices)

    def forward(self, hidden: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the hidden states ``[batch, frames, hidden]`` at the E exits, shallow to deep.

        Parameters
        ----------
        hidden : Tensor
            Projected features, ``[batch, frames, hidden]``.
        lengths : Tensor
            ``[batch]``, the number of frames of each utterance.
        """
        at_exits, _ = self.run_layers(self.add_positions(hidden, lengths), lengths)
        return at_exits

    def add_positions(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return the input of the first layer, ``[batch, frames, hidden]``."""
        mask = frame_mask(lengths, hidden.shape[1])
        hidden = hidden * mask[:, :, None]
        inputs = (hidden, mask) if self.config.conv_pos_kernel_size else (hidden,)
        positioned: Tensor = self.dropout(self.layer_norm(hidden + self.pos_conv_embed(*inputs)))
        return positioned

    def run_layers(
        self, hidden: Tensor, lengths: Tensor, after: int = 0, last: int | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Run the layers after layer ``after``, up to layer ``last`` (by default all).

        Parameters
        ----------
        hidden : Tensor
            Output of layer ``after``, ``[batch, frames, hidden]``; the first layer's input for 0.
        lengths : Tensor
            ``[batch]``, the number of frames of each utterance.
        after, last : int
            Layers counted from 1, as in ``exit_layers``.

        Returns
        -------
        tuple of list of Tensor and Tensor
            The hidden states at the exits among these layers, and the last layer's output.
        """
        masks = self._masks(hidden, frame_mask(lengths, hidden.shape[1]))
        at_exits = []
        for number, layer in enumerate(self.layers[after:last], start=after + 1):
            hidden = layer(hidden, **masks)
            if self.config.layer_type == "wavlm":
                hidden, _ = hidden
            if number in self.config.exit_layers:
                at_exits.append(hidden)
        return at_exits, hidden

    def _masks(self, hidden: Tensor, mask: Tensor) -> dict[str, Tensor | None]:
        """Return the layers' keyword arguments; ``mask`` is ``[batch, frames]``."""
        if self.config.layer_type == "wavlm":
            batch, frames = mask.shape
            attention: Any = self.layers[0].attention
            bias = attention.compute_bias(frames, frames)  # [heads, frames, frames]
            return {"attention_mask": mask, "position_bias": bias.repeat(batch, 1, 1)}
        attention_mask = None
        if not hidden.is_meta:  # meta tensors have shapes only: enough to count multiply-adds
            attention_mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=hidden, attention_mask=mask
            )
        if self.config.layer_type == "conformer":
            return {"attention_mask": attention_mask, "frame_mask": mask[:, :, None]}
        return {"attention_mask": attention_mask}


def position_embedding(config: EarlyExitConfig) -> nn.Module:
    """Return the configured positional embedding."""
    if config.layer_type == "conformer":
        return SinusoidalPosition()
    if config.conv_pos_kernel_size:
        return StackedPositionalConv(config)
    # from_pretrained creates modules on the meta device, where weight norm imports sympy (2 s).
    device = torch.get_default_device()
    with torch.device("cpu" if device.type == "meta" else device):
        convolution: nn.Module = PositionalConv(config)
    return convolution


def encoder_layer(config: EarlyExitConfig, index: int) -> nn.Module:
    """Return the encoder layer at ``index``, counted from 0, of the configured kind."""
    layer: nn.Module
    if config.layer_type == "conformer":
        layer = ConformerLayer(config)
    elif config.layer_type == "wavlm":
        kind = WavLMEncoderLayerStableLayerNorm if config.has_pre_norm else WavLMEncoderLayer
        layer = kind(config, has_relative_position_bias=index == 0)
    elif config.has_pre_norm:
        layer = Wav2Vec2EncoderLayerStableLayerNorm(config)
    else:
        layer = Wav2Vec2EncoderLayer(config)
    return layer
