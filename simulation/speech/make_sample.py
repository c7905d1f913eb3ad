"""Make the sample: SYNTHETIC speech, digit strings spoken by espeak-ng (Debian package).

    python -m simulation.speech.make_sample [--output PATH]

It has 24 voices that differ in accent, sex, pitch and speed. No voice is in both splits. Between
some digits there is a pause, before and after many strings too, and all of it is in a quiet room.
"""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
import torch
import typer
from numpy.random import Generator
from rich.progress import track

from efmodel.config import SAMPLE_RATE
from simulation.speech import espeak
from simulation.speech.acoustics import coloured_noise
from simulation.speech.espeak import Voice

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN_SECONDS = 112.0  # of speech by each training voice
TEST_SECONDS = 45.0  # of speech by each test voice
SAMPLE = Path(__file__).with_name("sample.parquet")
PAUSE_CHANCE = 0.2  # of a pause, a comma to espeak-ng, between two digits
QUIET_CHANCE = 0.5  # of a longer quiet before and after a string
QUIET = 0.5  # seconds, the longest
ROOM = (30.0, 50.0)  # dB of the speech's peak over the room's noise
COMPRESSION = 0.96  # libsndfile's scale from 0 (256 kbit/s a channel) to 1 (6 kbit/s)


VOICES = (
    Voice("en-gb", "m1", 40, 150),
    Voice("en-gb", "f1", 60, 135),
    Voice("en-gb", "m3", 25, 170),
    Voice("en-us", "m2", 45, 160),
    Voice("en-us", "f2", 65, 145),
    Voice("en-us", "m4", 30, 130),
    Voice("en-us", "f4", 50, 175),
    Voice("en-gb-scotland", "m5", 35, 140),
    Voice("en-gb-scotland", "f3", 70, 160),
    Voice("en-029", "m6", 50, 150),
    Voice("en-029", "f5", 55, 130),
    Voice("en-gb-x-rp", "f2", 45, 165),
    Voice("en-gb-x-rp", "m7", 55, 125),
    Voice("en-gb-x-gbclan", "m1", 60, 155),
    Voice("en-gb-x-gbclan", "f4", 40, 140),
    Voice("en-gb-x-gbcwmd", "m2", 20, 145),
    Voice("en-us-nyc", "f1", 75, 150),
    Voice("en-us-nyc", "m3", 50, 165),
    Voice("en-gb", "f3", 50, 155, "test"),
    Voice("en-us", "m7", 40, 145, "test"),
    Voice("en-gb-scotland", "m2", 50, 165, "test"),
    Voice("en-029", "f1", 65, 140, "test"),
    Voice("en-gb-x-gbcwmd", "f5", 60, 150, "test"),
    Voice("en-us-nyc", "m5", 30, 135, "test"),
)

SCHEMA = pyarrow.schema(
    [
        ("audio", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("text", pyarrow.string()),
        ("speaker", pyarrow.string()),
        ("split", pyarrow.string()),
        ("accent", pyarrow.string()),
        ("variant", pyarrow.string()),
        ("pitch", pyarrow.int32()),
        ("speed", pyarrow.int32()),
    ]
)


def make_sample(
    output: Annotated[Path, typer.Option(help="File to write.")] = SAMPLE,
    seed: Annotated[int, typer.Option(help="Seed of the texts and the loudness.")] = 0,
) -> None:
    """Speak all voices and write them as one parquet file of Ogg Opus."""
    version = espeak.version()
    description = f"SYNTHETIC speech made by simulation/speech/make_sample.py with {version}"
    chance = random.Random(seed)
    used: set[str] = set()  # training texts of three words or more, which no test voice speaks
    rows: list[dict[str, Any]] = []
    for number, voice in track(list(enumerate(VOICES, start=1)), "speaking"):
        rows += utterances(f"voice{number:02}", voice, chance, used)
    table = pyarrow.Table.from_pylist(rows, SCHEMA).replace_schema_metadata(
        {"description": description}
    )
    pyarrow.parquet.write_table(table, output, compression="zstd")
    print(f"{output}: {len(rows)} utterances, {output.stat().st_size / 1e6:.2f} MB")


def utterances(
    speaker: str, voice: Voice, chance: random.Random, used: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield one voice's rows, until it has spoken for the seconds of its split."""
    room = np.random.default_rng(chance.getrandbits(32))
    left = TRAIN_SECONDS if voice.split == "train" else TEST_SECONDS
    number = 0
    while left > 0:
        text = " ".join(chance.choices(DIGITS, k=chance.randint(2, 6)))
        long = text.count(" ") >= 2
        if voice.split == "test" and long and text in used:
            continue
        if voice.split == "train" and long:
            used.add(text)
        speech = espeak.speak(with_commas(text, chance), voice)
        left -= len(speech) / SAMPLE_RATE
        samples = in_a_room(speech, chance, room) * 10 ** (chance.uniform(-6, 0) / 20)
        number += 1
        yield {
            "audio": {"bytes": opus(samples), "path": f"{speaker}-{number:03}.opus"},
            "text": text,
            "speaker": speaker,
            "split": voice.split,
            "accent": voice.accent,
            "variant": voice.variant,
            "pitch": voice.pitch,
            "speed": voice.speed,
        }


def with_commas(text: str, chance: random.Random) -> str:
    """Return the text with a comma after some of its words."""
    first, *others = text.split()
    pauses = (", " if chance.random() < PAUSE_CHANCE else " " for _ in others)
    return first + "".join(f"{pause}{word}" for pause, word in zip(pauses, others, strict=True))


def in_a_room(speech: np.ndarray, chance: random.Random, room: Generator) -> np.ndarray:
    """Return the speech with quiet at its ends, and a room's faint noise throughout."""
    ends = [
        round(chance.uniform(0, QUIET) * SAMPLE_RATE) * (chance.random() < QUIET_CHANCE)
        for _ in range(2)
    ]
    longer = np.pad(speech, ends)
    noise = coloured_noise(len(longer), chance.uniform(1, 2), room)
    noise *= 10 ** (-chance.uniform(*ROOM) / 20) / np.sqrt(np.square(noise).mean())
    return np.asarray((longer + noise).clip(-1, 1), dtype=np.float32)


def opus(samples: np.ndarray) -> bytes:
    """Encode samples as an Ogg Opus file; return its bytes."""
    file = io.BytesIO()
    soundfile.write(
        file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    )
    return file.getvalue()


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(make_sample)
