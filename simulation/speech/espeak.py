"""SYNTHETIC voices: a text spoken by espeak-ng (Debian package espeak-ng)."""

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
SILENCE = 0.003  # of full scale; below lies what espeak-ng leaves around its speech


@dataclass(frozen=True)
class Voice:
    """One espeak-ng voice: its accent and variant, pitch (0-99), speed in words per minute."""

    accent: str
    variant: str
    pitch: int
    speed: int
    split: str = "train"


def version() -> str:
    """Return what espeak-ng calls itself.

    Raises
    ------
    BadParameter
        If it is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise typer.BadParameter("found no espeak-ng on PATH: install Debian's package espeak-ng")
    said = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    return said.split("  ")[0]


def speak(text: str, voice: Voice) -> np.ndarray:
    """Return the samples ``[samples]`` of a text at 16 kHz, trimmed, at full scale.

    Raises
    ------
    CalledProcessError
        If espeak-ng does not know the voice.
    """
    command = ["espeak-ng", "-v", f"{voice.accent}+{voice.variant}", "-p", str(voice.pitch)]
    command += ["-s", str(voice.speed), "--stdout", text]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    heard = np.flatnonzero(np.abs(samples) > SILENCE)
    margin = int(MARGIN * rate)
    samples = samples[max(0, heard[0] - margin) : heard[-1] + margin]
    mono = torchaudio.functional.resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy()
    return np.asarray(mono / np.abs(mono).max() * 0.95)
