"""Conformer layers.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv
2005.08100), with the sizes of arXiv 2405.17376. The convolution module normalises each frame over
its channels, where the paper uses batch norm: running statistics would have to be averaged between
clients with different speech, and the statistics of a batch depend on padding and on the other
utterances. So a layer has no buffers, and padding never changes a result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention

from efmodel.config import EarlyExitConfig
from efmodel.model.dropout import Dropout

WAVELENGTHS = 10_000.0  # longest wavelength over 2 pi, in frames (arXiv 1706.03762)


class SinusoidalPosition(nn.Module):
    """Sinusoidal embedding of a frame's absolute position; it has no parameters."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return positions ``[frames, hidden]`` for ``hidden`` ``[batch, frames, hidden]``.

        The first half of the channels are sines, the second half cosines.
        """
        _, frames, size = hidden.shape
        position = torch.arange(frames, device=hidden.device, dtype=torch.float32)
        channel = torch.arange(0, size, 2, device=hidden.device, dtype=torch.float32)
        angle = position[:, None] * WAVELENGTHS ** (-channel / size)
        return torch.cat([angle.sin(), angle.cos()], -1)[:, :size].to(hidden.dtype)


class FeedForward(nn.Module):
    """Layer norm, a wider linear layer with SiLU, and a linear layer back to the hidden size."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return ``[batch, frames, hidden]`` for ``hidden`` of that shape."""
        wide = functional.silu(self.intermediate_dense(self.layer_norm(hidden)))
        narrow: Tensor = self.output_dropout(self.output_dense(self.intermediate_dropout(wide)))
        return narrow


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution over time, norm, SiLU and a linear layer.

    The pointwise convolutions are linear layers, so the memory layout stays ``[batch, frames,
    channels]``.
    """

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        size, kernel = config.hidden_size, config.conv_depthwise_kernel_size
        self.layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.gate = nn.Linear(size, 2 * size)
        self.padding = kernel // 2  # frames on each side, so the number of frames stays the same
        self.depthwise = nn.Conv1d(size, size, kernel, padding=self.padding, groups=size)
        self.channel_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.mix = nn.Linear(size, size)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor, frame_mask: Tensor) -> Tensor:
        """Return ``[batch, frames, hidden]`` for ``hidden`` of that shape.

        ``frame_mask`` is ``[batch, frames, 1]``, False for padding: the convolution sees zeros
        after the end of every utterance, as it does after the longest one.
        """
        gated = functional.glu(self.gate(self.layer_norm(hidden))) * frame_mask
        # As an image of one row, (B, T, C) -> (B, C, 1, T): conv2d takes this channels-last memory
        # as it is, conv1d copies it and is four times as slow.
        image = functional.conv2d(
            gated.transpose(1, 2)[:, :, None],
            self.depthwise.weight[:, :, None],
            self.depthwise.bias,
            padding=(0, self.padding),
            groups=self.depthwise.groups,
        )
        convolved = image[:, :, 0].transpose(1, 2)  # (B, C, 1, T) -> (B, T, C)
        mixed: Tensor = self.dropout(self.mix(functional.silu(self.channel_norm(convolved))))
        return mixed


class ConformerLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Half-weighted feed-forward, attention, convolution, half-weighted feed-forward, norm."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.ffn1 = FeedForward(config)
        self.attention_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Wav2Vec2Attention(
            embed_dim=config.hidden_size,
            num_heads=config.num_attention_heads,
            dropout=config.attention_dropout,
            config=config,
        )
        self.attention_dropout = Dropout(config.hidden_dropout)
        self.conv_module = ConvolutionModule(config)
        self.ffn2 = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None, frame_mask: Tensor) -> Tensor:
        """Return ``[batch, frames, hidden]`` for ``hidden`` of that shape.

        ``attention_mask`` is the result of transformers' ``create_bidirectional_mask``,
        ``frame_mask`` is ``[batch, frames, 1]``, True for an utterance's frames, False for padding.
        """
        hidden = torch.add(hidden, self.ffn1(hidden), alpha=0.5)
        context, _ = self.attention(
            self.attention_layer_norm(hidden), attention_mask=attention_mask
        )
        hidden = hidden + self.attention_dropout(context)
        hidden = hidden + self.conv_module(hidden, frame_mask)
        hidden = torch.add(hidden, self.ffn2(hidden), alpha=0.5)
        normed: Tensor = self.final_layer_norm(hidden)
        return normed
