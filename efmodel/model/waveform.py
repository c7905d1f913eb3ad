"""The waveform front end: wav2vec2's convolutional feature encoder, unaffected by padding."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2FeatureEncoder,
    Wav2Vec2GroupNormConvLayer,
    Wav2Vec2LayerNormConvLayer,
    Wav2Vec2NoLayerNormConvLayer,
)

from efmodel.config import EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.model.precision import autocast


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


def convolve_and_norm(
    samples: Tensor, lengths: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm
) -> Tensor:
    """Return the first layer's normalised output ``[batch, frames, out]``.

    ``samples`` is ``[batch, samples]``, ``lengths`` ``[batch]``, the number of output frames of
    each utterance. wav2vec2-base normalises each channel over time; here only over the frames of
    the utterance, so padding has no effect.

    A channel is w.x for the ``kernel`` samples x of a frame, so its mean and variance over time are
    w.mean(x) and w' Cov(x) w. The norm therefore becomes a scale of each utterance's weights, and
    no pass over the much larger output is needed.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    windows = samples.unfold(1, kernel, stride)  # [batch, frames, kernel]
    mask = frame_mask(lengths, windows.shape[1])[:, :, None]
    with autocast(samples.device, "float32"):
        count = lengths.clamp(min=1)[:, None, None].float()
        mean = (windows * mask).sum(1, keepdim=True) / count
        centred = (windows - mean) * mask
        covariance = centred.transpose(1, 2) @ centred / count
        weight = conv.weight[:, 0]  # [out, kernel]
        variance = ((weight @ covariance) * weight).sum(2)  # [batch, out]
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        scaled = weight.t() * scale[:, None, :]  # [batch, kernel, out]
    return torch.baddbmm(norm.bias, centred, scaled)


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
        if self.do_normalize:
            samples = normalise(samples, lengths)
        hidden = samples[:, :, None]  # (B, T) -> (B, T, 1)
        run_layer = layer_output
        if self.gradient_checkpointing and self.training:
            run_layer = partial(self._gradient_checkpointing_func, layer_output)
        for layer in self.conv_layers:
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            lengths = lengths.clamp(min=0)
            hidden = run_layer(layer, hidden, lengths)
        return hidden, lengths


def layer_output(
    layer: Wav2Vec2GroupNormConvLayer | Wav2Vec2LayerNormConvLayer | Wav2Vec2NoLayerNormConvLayer,
    hidden: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Return the output of one of wav2vec2's three kinds of convolution layers.

    ``hidden`` is ``[batch, time, channels]``, ``lengths`` ``[batch]``, the number of output frames
    of each utterance.
    """
    if isinstance(layer, Wav2Vec2GroupNormConvLayer):  # the first layer: one channel, the waveform
        hidden = convolve_and_norm(hidden[:, :, 0], lengths, layer.conv, layer.layer_norm)
    else:
        hidden = convolve(hidden, layer.conv)
    if isinstance(layer, Wav2Vec2LayerNormConvLayer):
        hidden = layer.layer_norm(hidden)
    activated: Tensor = layer.activation(hidden)
    return activated
