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
from efmodel.settings import JOINS, LEVEL, NOISE, PAUSES, Settings, augmentations
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance

PAUSE_CHANCE = 0.4  # of a pause at each end
PAUSE = 2.0  # seconds, the longest
JOINED = 0.4  # of the utterances are heard once more, in rows
JOIN_CHANCE = 0.8  # of a further utterance in the same row
JOIN_SECONDS = 15.0  # of speech in a row, at most
JOINS_START = 0.5  # the strength at which the first rows come: words are learned one by one
GAP_CHANCE = 0.7  # of a pause between two utterances
GAP = 1.0  # seconds, the longest
NOISE_CHANCE = 0.5
SNR = (10.0, 40.0)  # dB of the speech over the noise
TILT = (0.0, 2.0)  # noise power falls as 1 / frequency to this: white, pink, brown
GAIN = (-20.0, 6.0)  # dB
EMPTY = 0.03  # further takes without speech, as a share of the utterances
EMPTY_SECONDS = (0.5, 4.0)
NOISE_WITHOUT_SPEECH = 0.7  # the share of them with noise
EMPTY_SNR = (20.0, 80.0)  # dB of full scale over the noise there


@dataclass(frozen=True)
class Take:
    """Utterances as they will be heard in one epoch, with silence around them.

    Attributes
    ----------
    utterances : tuple of Utterance
        Empty for a take without speech.
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

    Frames of 25 ms weigh as much as their amplitude.
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
    """Return the seconds of the longest take, of one recording or of a row."""
    kinds = augmentations(settings.augment)
    pauses = 2 * PAUSE if PAUSES in kinds else 0.0
    speech = max(settings.max_seconds, speech_in_a_row(settings) if JOINS in kinds else 0.0)
    return pauses + speech / (1 - settings.speed_perturbation)


def speech_in_a_row(settings: Settings) -> float:
    """Return the most seconds of speech in a row."""
    return min(JOIN_SECONDS, settings.batch_seconds)


def draw(
    utterances: Sequence[Utterance], settings: Settings, seed: int, strength: float = 1.0
) -> list[Take]:
    """Return one epoch's takes: each utterance once, and a few further ones.

    These are without speech, or have several utterances in a row.

    Parameters
    ----------
    utterances : Sequence[Utterance]
        A client's training speech.
    settings : Settings
        ``augment``, ``speed_perturbation`` and ``batch_seconds`` are used.
    seed : int
        Of all that is drawn.
    strength : float
        From 0 to 1, the share of the chances of pauses and noise; rows come from the middle on.
        A model that knows nothing learns faster from speech that is not changed.
    """
    dice = _Dice(random.Random(seed), augmentations(settings.augment), strength)
    speeds = [1 - settings.speed_perturbation, 1.0, 1 + settings.speed_perturbation]
    takes = [dice.take((utterance,), dice.chance.choice(speeds)) for utterance in utterances]
    if {PAUSES, NOISE} <= dice.kinds:
        takes += [dice.take_without_speech() for _ in range(round(EMPTY * len(utterances)))]
    if JOINS in dice.kinds:
        rows = dice.rows(utterances, settings)
        takes += [dice.take(row, dice.chance.choice(speeds)) for row in rows]
    return takes


@dataclass(frozen=True)
class _Dice:
    """Draws what happens to a take."""

    chance: random.Random
    kinds: frozenset[str]
    strength: float

    def rows(
        self, utterances: Sequence[Utterance], settings: Settings
    ) -> Iterator[tuple[Utterance, ...]]:
        """Yield rows of at least two utterances, none of which makes more than the longest take."""
        gap, end = (GAP, PAUSE) if PAUSES in self.kinds else (0.0, 0.0)
        room = longest(settings) - 2 * end
        share = JOINED * max(0.0, self.strength - JOINS_START) / (1 - JOINS_START)
        row: list[Utterance] = []
        for utterance in self.chance.sample(utterances, round(share * len(utterances))):
            speech = sum(each.seconds for each in row) + utterance.seconds
            slowest = speech / (1 - settings.speed_perturbation) + gap * len(row)
            fits = speech <= speech_in_a_row(settings) and slowest <= room
            if row and not (fits and self.chance.random() < JOIN_CHANCE):
                if len(row) > 1:
                    yield tuple(row)
                row = []
            row.append(utterance)
        if len(row) > 1:
            yield tuple(row)

    def take(self, utterances: tuple[Utterance, ...], speed: float) -> Take:
        """Return the utterances in a row, with what the kinds of augmentation add."""
        pauses = [self._pause(GAP_CHANCE, GAP) for _ in range(len(utterances) - 1)]
        return Take(
            utterances,
            (self._pause(PAUSE_CHANCE, PAUSE), *pauses, self._pause(PAUSE_CHANCE, PAUSE)),
            speed,
            snr=self.chance.uniform(*SNR) if self._happens(NOISE, NOISE_CHANCE) else None,
            tilt=self.chance.uniform(*TILT),
            gain=10 ** (self.chance.uniform(*GAIN) / 20) if LEVEL in self.kinds else 1.0,
            seed=self.chance.getrandbits(32),
        )

    def take_without_speech(self) -> Take:
        """Return silence, or noise of any loudness."""
        noisy = self.chance.random() < NOISE_WITHOUT_SPEECH
        return Take(
            (),
            (self.chance.uniform(*EMPTY_SECONDS),),
            snr=self.chance.uniform(*EMPTY_SNR) if noisy else None,
            tilt=self.chance.uniform(*TILT),
            seed=self.chance.getrandbits(32),
        )

    def _happens(self, kind: str, chance: float) -> bool:
        return kind in self.kinds and self.chance.random() < chance * self.strength

    def _pause(self, chance: float, longest: float) -> float:
        """Return a pause in seconds; short ones are more likely than long ones."""
        if not self._happens(PAUSES, chance):
            return 0.0
        return float(longest * self.chance.random() ** 2)
