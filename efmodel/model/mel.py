"""The mel front end: waveform -> 80 log-mel bands -> frames of 40 ms.

Features are always passed with their lengths, and padding is set to zero before every operation
that mixes neighbouring frames, so padding never changes a result.
"""

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor, nn

from efmodel.config import HOP, SAMPLE_RATE, EarlyExitConfig
from efmodel.model.frames import frame_mask
from efmodel.model.precision import autocast

N_FFT = 512
WINDOW = 400  # samples: 25 ms at 16 kHz
FLOOR = 1e-6  # added to the mel energies before the logarithm
# Added to a band's standard deviation, which is 1 to 3 for speech. Bands above 4 kHz of a recording
# made at 8 kHz are almost constant and must not be scaled up to noise.
MIN_DEVIATION = 0.1
SPEECH_FLOOR = 1e-8  # lower than FLOOR: the level of a quiet recording is that of its speech
# Natural logarithms of energy relative to the speech level.
QUIETEST = -10.0  # all that is 43 dB below the speech is equally quiet
CENTRE, SCALE = -4.5, 2.5  # mean and deviation of speech


@lru_cache
def constants(num_mel_bins: int) -> tuple[Tensor, Tensor]:
    """Return window and filter bank; as buffers, a model in bfloat16 would round them.

    A model makes them when it is built: made in a forward pass that is traced for an export, they
    would be placeholders of the trace.
    """
    with torch.device("cpu"):  # from_pretrained builds models on the device "meta"
        filters = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, num_mel_bins, SAMPLE_RATE
        )
        return torch.hann_window(WINDOW), filters


@torch.no_grad()
def log_mel(
    samples: Tensor, lengths: Tensor, num_mel_bins: int, normalisation: str
) -> tuple[Tensor, Tensor]:
    """Return each utterance's log-mel bands, normalised.

    Parameters
    ----------
    samples : Tensor
        ``[batch, samples]`` at 16 kHz, padded with zeros.
    lengths : Tensor
        ``[batch]``, the number of samples of each utterance.
    num_mel_bins : int
        Number of mel bands.
    normalisation : {"speech", "utterance"}
        By the level of the speech in it, or to zero mean and unit variance per band.

    Returns
    -------
    tuple of Tensor
        Features ``[batch, mel frames, num_mel_bins]`` and their lengths ``[batch]``.
    """
    window, filters = (constant.to(samples.device) for constant in constants(num_mel_bins))
    power = torchaudio.functional.spectrogram(
        samples.float(), pad=0, window=window, n_fft=N_FFT, hop_length=HOP, win_length=WINDOW,
        power=2.0, normalized=False, center=True, pad_mode="constant",
    )  # [batch, frequencies, mel frames]  # fmt: skip
    return normalised(power.transpose(1, 2) @ filters, lengths, normalisation)


def normalised(mel: Tensor, lengths: Tensor, normalisation: str) -> tuple[Tensor, Tensor]:
    """Return log-mel bands of energies ``[batch, mel frames, bands]``, and their lengths.

    ``lengths`` and ``normalisation`` are those of ``log_mel``.
    """
    lengths = lengths // HOP + 1
    mask = frame_mask(lengths, mel.shape[1])[:, :, None]
    normalise = by_speech_level if normalisation == "speech" else by_utterance
    return normalise(mel, mask), lengths


def by_speech_level(mel: Tensor, mask: Tensor) -> Tensor:
    """Return log-mel bands relative to the level of the speech, scaled to about -2 to 2.

    The level is the mean log energy of the frames, weighted by their energy. So pauses weigh
    nothing, however long they are, and noise 20 dB below the speech next to nothing.

    Parameters
    ----------
    mel : Tensor
        ``[batch, mel frames, bands]``, energies.
    mask : Tensor
        ``[batch, mel frames, 1]``, whether a frame is the utterance's.
    """
    power = mel.mean(2, keepdim=True) + SPEECH_FLOOR
    weight = power * mask
    level = (weight * power.log()).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    relative = (torch.log(mel + SPEECH_FLOOR) - level).clamp(min=QUIETEST)
    return (relative - CENTRE) / SCALE * mask


def by_utterance(mel: Tensor, mask: Tensor) -> Tensor:
    """Return log-mel bands with zero mean and unit variance per band over the utterance.

    Models without ``mel_normalisation`` in their configuration were trained so. Pauses change the
    mean and the deviation. Parameters are those of ``by_speech_level``.
    """
    features = torch.log(mel + FLOOR)
    count = mask.sum(1, keepdim=True).float()
    mean = (features * mask).sum(1, keepdim=True) / count
    centred = (features - mean) * mask
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / (deviation + MIN_DEVIATION)


def mask_bands_and_frames(features: Tensor, config: EarlyExitConfig) -> Tensor:
    """Mask features as SpecAugment does (arXiv 1904.08779): two spans of bands, two of frames.

    Masked features are zero, the mean. ``features`` is ``[batch, mel frames, num_mel_bins]``. The
    spans are drawn for each utterance, with random widths up to ``config.mask_mel_bins`` bands and
    ``config.mask_mel_frames`` frames.
    """
    stacked = features[:, None]  # (B, T, F) -> (B, 1, T, F)
    for _ in range(2):
        for axis, width in ((3, config.mask_mel_bins), (2, config.mask_mel_frames)):
            if width:
                stacked = torchaudio.functional.mask_along_axis_iid(stacked, width, 0.0, axis)
    return stacked[:, 0]


class MelFeatureExtractor(nn.Module):
    """Log-mel bands and two convolutions of stride 2; one frame every 40 ms."""

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = config.conv_stride
        constants(config.num_mel_bins)
        sizes = [config.num_mel_bins, *config.conv_dim]
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(sizes[i], sizes[i + 1], kernel, stride, padding=kernel // 2)
            for i, (kernel, stride) in enumerate(
                zip(config.conv_kernel, config.conv_stride, strict=True)
            )
        )

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[batch, frames, conv_dim]`` and their lengths ``[batch]``.

        Parameters
        ----------
        samples : Tensor
            ``[batch, samples]`` at 16 kHz, padded with zeros.
        lengths : Tensor
            ``[batch]``, the number of samples of each utterance.
        """
        with autocast(samples.device, "float32"):  # bfloat16 is too coarse for quiet bands
            features, lengths = log_mel(
                samples, lengths, self.config.num_mel_bins, self.config.mel_normalisation
            )
        if self.training:
            features = mask_bands_and_frames(features, self.config)
        return self.subsample(features.to(next(self.parameters()).dtype), lengths)

    def subsample(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the convolutions' output ``[batch, frames, conv_dim]`` and lengths ``[batch]``.

        ``features`` is ``[batch, mel frames, num_mel_bins]``, ``lengths`` its ``[batch]``.
        """
        hidden = features.transpose(1, 2)  # (B, T, F) -> (B, F, T)
        for conv, stride in zip(self.conv_layers, self.strides, strict=True):
            hidden = nn.functional.gelu(conv(hidden))
            lengths = (lengths - 1) // stride + 1
            hidden = hidden * frame_mask(lengths, hidden.shape[2])[:, None, :]
        return hidden.transpose(1, 2), lengths  # (B, C, T) -> (B, T, C)
