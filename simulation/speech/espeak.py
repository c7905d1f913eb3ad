"""SYNTHETIC voices: espeak-ng (Debian package espeak-ng) speaks a text."""

import io
import shutil
import subprocess
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
import torchaudio
import typer

from efmodel.config import SAMPLE_RATE

MARGIN = 0.1  # seconds of silence kept on both sides
SILENCE = 0.003  # of full scale: quieter samples at the start and the end are cut off


@dataclass(frozen=True)
class Voice:
    """One espeak-ng voice: accent and variant, pitch (0 to 99), speed in words per minute."""

    accent: str
    variant: str
    pitch: int
    speed: int
    split: str = "train"


def version() -> str:
    """Return espeak-ng's name and version.

    Raises
    ------
    BadParameter
        If it is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise typer.BadParameter("found no espeak-ng on PATH: install Debian's package espeak-ng")
    output = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    return output.split("  ")[0]


def speak(text: str, voice: Voice) -> np.ndarray:
    """Return a text as speech: ``[samples]`` at 16 kHz, trimmed, with a peak of 0.95.

    Raises
    ------
    CalledProcessError
        If espeak-ng does not know the voice.
    """
    command = ["espeak-ng", "-v", f"{voice.accent}+{voice.variant}", "-p", str(voice.pitch)]
    command += ["-s", str(voice.speed), "--stdout", text]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    margin = int(MARGIN * rate)
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    mono = torchaudio.functional.resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy()
    return np.asarray(mono / np.abs(mono).max() * 0.95)
