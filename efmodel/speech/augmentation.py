"""Random changes to training speech: speed, pauses, noise, level, and utterances in a row.

What a take will be is drawn before batches are made, so that these know its length; the audio is
changed only when a batch is heard.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.settings import PAUSES, Settings, augmentations
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance

PAUSE_CHANCE = 0.5  # of a pause at each end
PAUSE = 2.0  # seconds, the longest
JOIN_CHANCE = 0.4  # of a further utterance in the same take
JOIN_SECONDS = 15.0  # of speech in a take of several utterances, at most
GAP_CHANCE = 0.7  # of a pause between two utterances
GAP = 1.0  # seconds, the longest
NOISE_CHANCE = 0.5
SNR = (10.0, 40.0)  # dB of the speech over the noise
TILT = (0.0, 2.0)  # noise power falls as 1 / frequency to this: white, pink, brown
LEVEL = (-20.0, 6.0)  # dB
EMPTY = 0.03  # share of further takes without speech
EMPTY_SECONDS = (0.5, 4.0)
QUIETEST_NOISE = 1e-4  # RMS of the noise in a take without speech
LOUDEST_NOISE = 0.1


@dataclass(frozen=True)
class Take:
    """Utterances as they will be heard in one epoch, with silence around them.

    Attributes
    ----------
    utterances : tuple of Utterance
        None for a take without speech.
    pauses : tuple of float
        Seconds before, between and after the utterances.
    speed : float
        How many times as fast they are played.
    snr : float, optional
        dB of the speech over the noise; None for no noise.
    tilt : float
        The noise's power is proportional to ``frequency ** -tilt``.
    gain : float
        Factor of the amplitude.
    seed : int
        Of the noise.
    """

    utterances: tuple[Utterance, ...]
    pauses: tuple[float, ...]
    speed: float = 1.0
    snr: float | None = None
    tilt: float = 0.0
    gain: float = 1.0
    seed: int = 0

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return sum(self.pauses) + sum(each.seconds for each in self.utterances) / self.speed

    def heard(self, space: Sequence[int] = ()) -> Utterance:
        """Return the take as one utterance; ``space`` are the labels between two texts."""
        if self.is_plain():
            return self.utterances[0].decoded()
        parts = [silence(self.pauses[0])]
        labels: list[int] = []
        for number, (utterance, pause) in enumerate(
            zip(self.utterances, self.pauses[1:], strict=True)
        ):
            parts += [at_speed(utterance.samples, self.speed), silence(pause)]
            labels += [*(space if number else ()), *utterance.labels]
        samples = torch.cat(parts)
        if self.snr is not None:
            level = speech_level(samples) if self.utterances else 1.0
            scale = level * 10 ** (-self.snr / 20)
            samples = samples + scale * noise(len(samples), self.tilt, self.seed)
        samples = (self.gain * samples).clamp(-1, 1)
        names = "+".join(utterance.name for utterance in self.utterances) or "no speech"
        texts = " ".join(utterance.text for utterance in self.utterances)
        return Utterance(names, InMemory(samples), texts, labels)

    def is_plain(self) -> bool:
        """Return whether this is one utterance as it was recorded."""
        changed = any(self.pauses) or self.snr is not None
        return len(self.utterances) == 1 and not changed and self.speed == self.gain == 1.0


def silence(seconds: float) -> Tensor:
    """Return digital silence ``[samples]``."""
    return torch.zeros(round(seconds * SAMPLE_RATE))


def at_speed(samples: Tensor, speed: float) -> Tensor:
    """Return the samples played ``speed`` times as fast, which also raises their pitch.

    Ko et al., "Audio augmentation for speech recognition" (Interspeech 2015), use 0.9, 1 and 1.1.
    """
    if speed == 1.0:
        return samples
    rate = round(100 * speed)  # whole hundredths keep the resampling filter small
    resampled: Tensor = torchaudio.functional.resample(samples, rate, 100)
    return resampled


def speech_level(samples: Tensor) -> float:
    """Return the RMS amplitude of speech, its loud parts counting more than its pauses.

    Frames of 25 ms weigh as much as their amplitude, as in the mel front end.
    """
    frames = samples.unfold(0, 400, 400) if len(samples) >= 400 else samples[None]
    power = frames.square().mean(1)
    weight = power.sqrt()
    return float(((weight * power).sum() / weight.sum().clamp(min=1e-12)).sqrt())


def noise(samples: int, tilt: float, seed: int) -> Tensor:
    """Return Gaussian noise ``[samples]`` of RMS 1 with power proportional to ``f ** -tilt``."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    bins = torch.arange(1, len(spectrum) + 1) / len(spectrum) * SAMPLE_RATE / 2
    spectrum = spectrum * bins.clamp(min=50.0) ** (-tilt / 2)  # no rumble below 50 Hz
    spectrum[0] = 0
    coloured: Tensor = torch.fft.irfft(spectrum, samples)
    return coloured / coloured.square().mean().sqrt().clamp(min=1e-12)


def longest(settings: Settings) -> float:
    """Return the seconds of the longest take of one recording."""
    pauses = 2 * PAUSE if PAUSES in augmentations(settings.augment) else 0.0
    return pauses + settings.max_seconds / (1 - settings.speed_perturbation)


def draw(utterances: Sequence[Utterance], settings: Settings, seed: int) -> list[Take]:
    """Return one epoch's takes: each utterance once, and a few takes without speech."""
    chance = random.Random(seed)
    kinds = augmentations(settings.augment)
    speeds = [1 - settings.speed_perturbation, 1.0, 1 + settings.speed_perturbation]
    draws = _Draws(chance, kinds)
    joins = "joins" in kinds
    most = min(JOIN_SECONDS, settings.batch_seconds)
    takes = [
        draws.take(group, chance.choice(speeds))
        for group in _groups(utterances, chance, joins, most)
    ]
    if {"pauses", "noise"} <= kinds:
        takes += [draws.empty() for _ in range(round(EMPTY * len(utterances)))]
    return takes


def _groups(
    utterances: Sequence[Utterance], chance: random.Random, joins: bool, longest: float
) -> Iterator[tuple[Utterance, ...]]:
    """Yield each utterance once, alone or in a row with others of at most ``longest`` seconds."""
    if not joins:
        yield from ((utterance,) for utterance in utterances)
        return
    group: list[Utterance] = []
    for utterance in chance.sample(utterances, len(utterances)):
        fits = sum(each.seconds for each in group) + utterance.seconds <= longest
        if group and not (fits and chance.random() < JOIN_CHANCE):
            yield tuple(group)
            group = []
        group.append(utterance)
    if group:
        yield tuple(group)


@dataclass(frozen=True)
class _Draws:
    """Draws of what happens to a take."""

    chance: random.Random
    kinds: frozenset[str]

    def take(self, utterances: tuple[Utterance, ...], speed: float) -> Take:
        pauses = [0.0] * (len(utterances) + 1)
        if PAUSES in self.kinds:
            pauses = [self._pause(GAP_CHANCE, GAP) for _ in pauses]
            pauses[0], pauses[-1] = (self._pause(PAUSE_CHANCE, PAUSE) for _ in range(2))
        noisy = "noise" in self.kinds and self.chance.random() < NOISE_CHANCE
        return Take(
            utterances, tuple(pauses), speed,
            snr=self.chance.uniform(*SNR) if noisy else None,
            tilt=self.chance.uniform(*TILT),
            gain=10 ** (self.chance.uniform(*LEVEL) / 20) if "level" in self.kinds else 1.0,
            seed=self.chance.getrandbits(32),
        )  # fmt: skip

    def empty(self) -> Take:
        snr = -20 * torch.tensor(QUIETEST_NOISE / LOUDEST_NOISE).log10().item()
        noisy = self.chance.random() < 0.7
        return Take(
            (), (self.chance.uniform(*EMPTY_SECONDS),),
            snr=self.chance.uniform(20.0, 20.0 + snr) if noisy else None,
            tilt=self.chance.uniform(*TILT), seed=self.chance.getrandbits(32),
        )  # fmt: skip

    def _pause(self, chance: float, longest: float) -> float:
        return self.chance.uniform(0, longest) if self.chance.random() < chance else 0.0
