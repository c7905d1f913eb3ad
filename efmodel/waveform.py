"""The waveform front end: wav2vec2's convolutional feature encoder, made safe for padding."""

import torch
from torch import Tensor, nn
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2FeatureEncoder,
    Wav2Vec2GroupNormConvLayer,
)

from efmodel.config import EarlyExitConfig
from efmodel.mel import frame_mask


def normalise(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return ``[batch, samples]`` with zero mean and unit variance over each one's own samples."""
    mask = frame_mask(lengths, samples.shape[1])
    count = lengths[:, None].float()
    mean = (samples * mask).sum(1, keepdim=True) / count
    centred = (samples - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


def _masked_group_norm(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Normalise each channel over the utterance's own frames.

    wav2vec2-base norms each channel over time; over a padded batch that would let the padding in.
    """
    mask = frame_mask(lengths, hidden.shape[2])[:, None, :]
    count = lengths[:, None, None].to(hidden.dtype)
    mean = (hidden * mask).sum(2, keepdim=True) / count
    centred = (hidden - mean) * mask
    variance = centred.square().sum(2, keepdim=True) / count
    scaled = centred * torch.rsqrt(variance + norm.eps)
    return scaled * norm.weight[None, :, None] + norm.bias[None, :, None]


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
        hidden = samples[:, None, :]  # (B, T) -> (B, 1, T)
        for layer in self.conv_layers:
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            lengths = lengths.clamp(min=0)
            if isinstance(layer, Wav2Vec2GroupNormConvLayer):
                hidden = _masked_group_norm(layer.layer_norm, layer.conv(hidden), lengths)
                hidden = layer.activation(hidden)
            else:
                hidden = layer(hidden)
        return hidden.transpose(1, 2), lengths  # (B, C, T) -> (B, T, C)
