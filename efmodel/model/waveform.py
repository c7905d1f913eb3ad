"""The waveform front end: wav2vec2's convolutional feature encoder, made safe for padding."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

from efmodel.config import EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.model.precision import autocast


def normalise(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return ``[batch, samples]`` with zero mean and unit variance over each one's own samples."""
    mask = frame_mask(lengths, samples.shape[1])
    count = lengths[:, None].float()
    mean = (samples * mask).sum(1, keepdim=True) / count
    centred = (samples - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


def convolve(hidden: Tensor, conv: nn.Conv1d) -> Tensor:
    """Return ``conv``'s output ``[batch, frames, out]`` for ``hidden`` ``[batch, time, in]``.

    On a CPU as matrix products: with time before channels, ``stride`` frames are one row of a
    matrix without a copy, and each run of ``stride`` taps is one product.
    """
    if hidden.is_cuda:
        by_channel: Tensor = conv(hidden.transpose(1, 2))  # (B, T, C) -> (B, C, T)
        return by_channel.transpose(1, 2)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    batch, time, size = hidden.shape
    frames = (time - kernel) // stride + 1
    runs = kernel - kernel % stride
    inputs = [
        (slice(tap, tap + stride), hidden[:, tap : tap + frames * stride])
        for tap in range(0, runs, stride)
    ] + [
        (slice(tap, tap + 1), hidden[:, tap : tap + (frames - 1) * stride + 1 : stride])
        for tap in range(runs, kernel)
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
    """Return the first layer's normed output ``[batch, frames, out]`` for ``[batch, samples]``.

    wav2vec2-base norms each channel over time; here over the utterance's own frames, ``lengths``,
    or the padding would have a say. A channel is w.x for the ``kernel`` samples x of a frame, so
    its mean and variance over time are w.mean(x) and w' Cov(x) w: the norm becomes a scale on each
    utterance's weights, and nothing of the output's size need be gone through for it.
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
    """wav2vec2's feature encoder, weight for weight: a frame every 20 ms."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__(config)
        self.do_normalize = config.do_normalize

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[batch, frames, conv_dim]`` and their lengths ``[batch]``.

        ``samples`` is ``[batch, samples]``, zero behind each utterance's end, ``lengths`` its
        samples ``[batch]``.
        """
        if self.do_normalize:
            samples = normalise(samples, lengths)
        hidden = samples[:, :, None]  # (B, T) -> (B, T, 1)
        through = layer_output
        if self.gradient_checkpointing and self.training:
            through = partial(self._gradient_checkpointing_func, layer_output)
        for layer in self.conv_layers:
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            lengths = lengths.clamp(min=0)
            hidden = through(layer, hidden, lengths)
        return hidden, lengths


def layer_output(layer: nn.Module, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return what one of wav2vec2's three kinds of layers makes of ``[batch, time, channels]``."""
    conv: Any = layer.conv
    activation: Any = layer.activation
    norm: Any = getattr(layer, "layer_norm", None)
    if isinstance(norm, nn.GroupNorm):
        hidden = convolve_and_norm(hidden[:, :, 0], lengths, conv, norm)
    else:
        hidden = convolve(hidden, conv)
        hidden = hidden if norm is None else norm(hidden)
    activated: Tensor = activation(hidden)
    return activated
