"""What each stage's graph computes, as modules of operations that ONNX has.

The encoder layers and heads are the model's own. The front ends and the masks are written
differently from training's, with the same results: ONNX runtimes have no good Fourier transform of
recordings of any length, and transformers decides about masks while it runs.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2GroupNormConvLayer as GroupNormLayer,
)

from efmodel.config import HOP
from efmodel.model import mel, waveform
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.frames import frame_mask
from efmodel.model.lora import merged


def exportable(model: EarlyExitForCTC) -> EarlyExitForCTC:
    """Return a copy of a model in float32 whose weights are plain: no adapters, no weight norm."""
    plain: EarlyExitForCTC = merged(model).cut(model.config.num_exits).cpu().float().eval()
    plain.set_attn_implementation("eager")  # matrix products and a softmax
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    plain.requires_grad_(False)
    return plain


def stages(model: EarlyExitForCTC) -> list[nn.Module]:
    """Return the E stages of an exportable model, the first one with the front end."""
    first = FirstStage(model)
    others = [Stage(model, exit) for exit in range(2, model.config.num_exits + 1)]
    return [stage.eval() for stage in (first, *others)]


class Stage(nn.Module):
    """The layers between two exits, and the head of the second.

    Parameters
    ----------
    model : EarlyExitForCTC
        Exportable.
    exit : int
        The second exit; the first is the one before.
    """

    def __init__(self, model: EarlyExitForCTC, exit: int) -> None:
        super().__init__()
        layers = [0, *model.config.exit_layers]
        self.layers = model.encoder.layers[layers[exit - 1] : layers[exit]]
        self.head = model.exits[str(exit)]
        self.kind = model.config.layer_type
        # All layers of WavLM take their relative positions from the first one's table.
        self.positions: Any = model.encoder.layers[0].attention if self.kind == "wavlm" else None

    def forward(self, hidden_in: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states ``[batch, frames, hidden]`` and log-probabilities ``[.., vocab]``.

        Parameters
        ----------
        hidden_in : Tensor
            ``[batch, frames, hidden]``, the stage's input.
        frames : Tensor
            ``[batch]``, the number of frames of each utterance.
        """
        hidden, masks = hidden_in, self._masks(frame_mask(frames, hidden_in.shape[1]))
        for layer in self.layers:
            hidden = layer(hidden, **masks)
            if self.kind == "wavlm":
                hidden, _ = hidden
        return hidden, self.head(hidden).log_softmax(-1)

    def _masks(self, mask: Tensor) -> dict[str, Tensor]:
        """Return the layers' keyword arguments; ``mask`` is ``[batch, frames]``."""
        if self.kind == "wavlm":
            batch, frames = mask.shape
            bias = self.positions.compute_bias(frames, frames)  # [heads, frames, frames]
            return {"attention_mask": mask, "position_bias": bias.repeat(batch, 1, 1)}
        least = torch.finfo(torch.float32).min
        scores = torch.zeros(mask.shape).masked_fill(~mask, least)[:, None, None, :]
        if self.kind == "conformer":
            return {"attention_mask": scores, "frame_mask": mask[:, :, None]}
        return {"attention_mask": scores}


class FirstStage(nn.Module):
    """The front end, the layers up to the first exit, and its head.

    Parameters
    ----------
    model : EarlyExitForCTC
        Exportable.
    """

    def __init__(self, model: EarlyExitForCTC) -> None:
        super().__init__()
        front_end: Any = MelFrontEnd if model.config.frontend == "mel" else WaveformFrontEnd
        self.front_end = front_end(model.feature_extractor)
        self.projection = model.feature_projection
        self.encoder = model.encoder
        self.stage = Stage(model, 1)

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden states, the number of frames ``[batch]``, and log-probabilities.

        Parameters
        ----------
        samples : Tensor
            ``[batch, samples]`` at 16 kHz; what is behind an utterance's end has no effect.
        lengths : Tensor
            ``[batch]``, the number of samples of each utterance.
        """
        features, frames = self.front_end(samples * frame_mask(lengths, samples.shape[1]), lengths)
        hidden, _ = self.projection(features)
        hidden, log_probs = self.stage(self.encoder.add_positions(hidden, frames), frames)
        return hidden, frames, log_probs


class MelFrontEnd(nn.Module):
    """The mel front end with its Fourier transform as a convolution.

    The filters are the transform's cosines and sines under the window, so the sum of the squares of
    two of their outputs is a frequency's power.

    Parameters
    ----------
    extractor : MelFeatureExtractor
        The model's own.
    """

    def __init__(self, extractor: mel.MelFeatureExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        window, filters = mel.constants(extractor.config.num_mel_bins)
        frequency = torch.arange(len(filters), dtype=torch.float64)[:, None]
        angle = 2 * math.pi / mel.N_FFT * frequency * torch.arange(mel.WINDOW)
        waves = torch.cat([angle.cos(), angle.sin()]) * window.double()
        self.register_buffer("waves", waves.float()[:, None])  # [2 * frequencies, 1, window]
        self.register_buffer("filters", filters)  # [frequencies, bands]

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[batch, frames, conv_dim]`` and their lengths ``[batch]``."""
        waves, filters = self.get_buffer("waves"), self.get_buffer("filters")
        found = functional.conv1d(samples[:, None], waves, stride=HOP, padding=mel.WINDOW // 2)
        cosines, sines = found.square().transpose(1, 2).chunk(2, -1)
        normalisation = self.extractor.config.mel_normalisation
        features, lengths = mel.normalised((cosines + sines) @ filters, lengths, normalisation)
        return self.extractor.subsample(features, lengths)


class WaveformFrontEnd(nn.Module):
    """wav2vec2's feature encoder as plain convolutions.

    Parameters
    ----------
    extractor : WaveformFeatureExtractor
        The model's own.
    """

    def __init__(self, extractor: waveform.WaveformFeatureExtractor) -> None:
        super().__init__()
        self.do_normalize = extractor.do_normalize
        self.conv_layers = extractor.conv_layers

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[batch, frames, conv_dim]`` and their lengths ``[batch]``."""
        if self.do_normalize:
            samples = waveform.normalise(samples, lengths)
        hidden = samples[:, None]  # (B, T) -> (B, 1, T)
        for layer in self.conv_layers:
            lengths = waveform.frames_of(lengths, layer.conv)
            if isinstance(layer, GroupNormLayer):
                convolved = norm_over_time(layer.conv(hidden), lengths, layer.layer_norm)
                hidden = layer.activation(convolved)
            else:
                hidden = layer(hidden)
        return hidden.transpose(1, 2), lengths  # (B, C, T) -> (B, T, C)


def norm_over_time(hidden: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Return ``hidden`` ``[batch, channels, time]`` with each channel normalised over time.

    ``lengths`` is ``[batch]``: the mean and the variance are those of an utterance's own frames.
    """
    mask = frame_mask(lengths, hidden.shape[2])[:, None]
    count = lengths.clamp(min=1)[:, None, None].float()
    centred = hidden - (hidden * mask).sum(2, keepdim=True) / count
    variance = (centred * mask).square().sum(2, keepdim=True) / count
    scaled = centred * torch.rsqrt(variance + norm.eps)
    return scaled * norm.weight[:, None] + norm.bias[:, None]
