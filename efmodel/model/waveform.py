"""The waveform front end: wav2vec2's convolutional feature encoder, unaffected by padding."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2FeatureEncoder,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2GroupNormConvLayer as GroupNormLayer,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2LayerNormConvLayer as LayerNormLayer,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2NoLayerNormConvLayer as NoLayerNormLayer,
)
from transformers.utils import is_tracing

from efmodel.config import EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.model.precision import autocast

PIECE = 160_000  # samples of a batch that inference takes through the convolutions at once: 10 s


def normalise(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return ``samples`` with zero mean and unit variance per utterance, padding not counted.

    ``samples`` is ``[batch, samples]``, ``lengths`` ``[batch]``; padding becomes zero.
    """
    mask = frame_mask(lengths, samples.shape[1])
    count = lengths[:, None].float()
    mean = (samples * mask).sum(1, keepdim=True) / count
    centred = (samples - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


def convolve(hidden: Tensor, conv: nn.Conv1d) -> Tensor:
    """Return ``conv``'s output ``[batch, frames, out]`` for ``hidden`` ``[batch, time, in]``.

    On a CPU the convolution is a sum of matrix products, which is faster: with time before
    channels, ``stride`` neighbouring inputs form one row of a matrix without a copy, and each
    group of ``stride`` taps is one product.
    """
    if hidden.is_cuda:
        by_channel: Tensor = conv(hidden.transpose(1, 2))  # (B, T, C) -> (B, C, T)
        return by_channel.transpose(1, 2)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    batch, time, size = hidden.shape
    frames = (time - kernel) // stride + 1
    grouped = kernel - kernel % stride  # taps in whole groups; the others come one by one
    inputs = [
        (slice(tap, tap + stride), hidden[:, tap : tap + frames * stride])
        for tap in range(0, grouped, stride)
    ] + [
        (slice(tap, tap + 1), hidden[:, tap : tap + (frames - 1) * stride + 1 : stride])
        for tap in range(grouped, kernel)
    ]
    products = []
    for taps, rows in inputs:
        weight = conv.weight[:, :, taps].transpose(1, 2).flatten(1)  # (O, I, K) -> (O, K * I)
        products.append(functional.linear(rows.reshape(batch, frames, -1), weight))
    result = sum(products[1:], products[0])
    return result if conv.bias is None else result + conv.bias


@dataclass(frozen=True)
class NormOverTime:
    """wav2vec2-base's norm of each channel over time, for the first convolution's output.

    A channel is w.x for the ``kernel`` samples x of a frame, so its mean and variance over time are
    w.mean(x) and w' Cov(x) w. The norm therefore becomes a mean of the samples and a scale of each
    utterance's weights: no pass over the much larger output is needed, and it can be made in
    pieces. The statistics are those of the utterance's own frames, so padding has no effect.

    Attributes
    ----------
    mean : Tensor
        ``[batch, 1, kernel]``, float32.
    weight : Tensor
        ``[batch, kernel, out]``, float32.
    """

    mean: Tensor
    weight: Tensor

    @classmethod
    def of(cls, samples: Tensor, lengths: Tensor, layer: GroupNormLayer) -> "NormOverTime":
        """Return the norm of ``samples`` ``[batch, samples]``.

        ``lengths`` is ``[batch]``, the number of output frames of each utterance.
        """
        conv, norm = layer.conv, layer.layer_norm
        windows = samples.unfold(1, conv.kernel_size[0], conv.stride[0])  # [batch, frames, kernel]
        mask = frame_mask(lengths, windows.shape[1])[:, :, None]
        with autocast(samples.device, "float32"):
            count = lengths.clamp(min=1)[:, None, None].float()
            mean = (windows * mask).sum(1, keepdim=True) / count
            centred = (windows - mean) * mask
            covariance = centred.transpose(1, 2) @ centred / count
            weight = conv.weight[:, 0].float()  # [out, kernel]
            variance = ((weight @ covariance) * weight).sum(2)  # [batch, out]
            scale = norm.weight.float() * torch.rsqrt(variance + norm.eps)
            return cls(mean, weight.t() * scale[:, None, :])

    def convolve(self, samples: Tensor, layer: GroupNormLayer) -> Tensor:
        """Return the normalised output ``[batch, frames, out]`` for a piece of the samples."""
        windows = samples.unfold(1, layer.conv.kernel_size[0], layer.conv.stride[0])
        bias = layer.layer_norm.bias
        centred, weight = (windows - self.mean).to(bias.dtype), self.weight.to(bias.dtype)
        return torch.baddbmm(bias, centred, weight)


class WaveformFeatureExtractor(Wav2Vec2FeatureEncoder):  # type: ignore[misc]
    """wav2vec2's feature encoder with the same tensors; one frame every 20 ms."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__(config)
        self.do_normalize = config.do_normalize

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[batch, frames, conv_dim]`` and their lengths ``[batch]``.

        Parameters
        ----------
        samples : Tensor
            ``[batch, samples]`` at 16 kHz, padded with zeros.
        lengths : Tensor
            ``[batch]``, the number of samples of each utterance.
        """
        samples = samples.float()
        if self.do_normalize:
            samples = normalise(samples, lengths)
        first = self.conv_layers[0]
        norm = None
        if isinstance(first, GroupNormLayer):
            norm = NormOverTime.of(samples, frames_of(lengths, first.conv), first)
        for layer in self.conv_layers:
            lengths = frames_of(lengths, layer.conv)
        if torch.is_grad_enabled() or samples.is_meta or is_tracing(samples):
            return self.convolve(samples, norm), lengths
        return torch.cat([self.convolve(piece, norm) for piece in self.pieces(samples)], 1), lengths

    def convolve(self, samples: Tensor, norm: NormOverTime | None) -> Tensor:
        """Return all layers' output ``[batch, frames, conv_dim]`` for ``[batch, samples]``."""
        if norm is None:  # otherwise the norm ends in the weights' type
            samples = samples.to(self.conv_layers[0].conv.weight.dtype)
        hidden = samples[:, :, None]  # (B, T) -> (B, T, 1)
        run_layer = layer_output
        if self.gradient_checkpointing and self.training:
            run_layer = partial(self._gradient_checkpointing_func, layer_output)
        for layer in self.conv_layers:
            hidden = run_layer(layer, hidden, norm)
        return hidden

    def pieces(self, samples: Tensor) -> Iterator[Tensor]:
        """Yield pieces of ``samples`` ``[batch, samples]`` whose outputs together are the whole's.

        The first layer's output takes a hundred times the samples' memory. Neighbouring pieces
        overlap by what a frame sees beyond its step.
        """
        step, width = 1, 1  # samples between two frames, and samples that a frame sees
        for layer in self.conv_layers:
            width += (layer.conv.kernel_size[0] - 1) * step
            step *= layer.conv.stride[0]
        batch, size = samples.shape
        frames = max(1, (size - width) // step + 1)
        at_once = max(1, PIECE // batch // step)
        for begin in range(0, frames, at_once):
            end = min(begin + at_once, frames)
            last = size if end == frames else (end - 1) * step + width
            yield samples[:, begin * step : last]


def frames_of(lengths: Tensor, conv: nn.Conv1d) -> Tensor:
    """Return the number of output frames ``[batch]`` for ``lengths`` inputs."""
    frames = torch.div(lengths - conv.kernel_size[0], conv.stride[0], rounding_mode="floor") + 1
    return frames.clamp(min=0)


def layer_output(
    layer: GroupNormLayer | LayerNormLayer | NoLayerNormLayer,
    hidden: Tensor,
    norm: NormOverTime | None,
) -> Tensor:
    """Return the output of one of wav2vec2's three kinds of convolution layers.

    ``hidden`` is ``[batch, time, channels]``; ``norm`` is that of a first layer with group norm.
    """
    if isinstance(layer, GroupNormLayer) and norm:  # the first layer: one channel, the waveform
        hidden = norm.convolve(hidden[:, :, 0], layer)
    else:
        hidden = convolve(hidden, layer.conv)
    if isinstance(layer, LayerNormLayer):
        hidden = layer.layer_norm(hidden)
    activated: Tensor = layer.activation(hidden)
    return activated
