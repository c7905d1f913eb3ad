"""Make SYNTHETIC speech to train on before a federation: many voices, different sentences, noise.

    python -m simulation.speech.make_speech OUTPUT [--hours H] [--voices N] [--seed S]

It needs Debian's packages espeak-ng, which speaks, and wordnet-base, for half of the sentences. It
writes an audiofolder: ``train/`` and ``test/`` with FLAC files and ``metadata.jsonl``. No sentence
is spoken twice, and no voice variant is in both splits.
"""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import Pool
from multiprocessing.pool import Pool as PoolType
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.progress import Progress

from efmodel.config import SAMPLE_RATE
from simulation.speech import espeak
from simulation.speech.acoustics import record_in_room
from simulation.speech.espeak import Voice
from simulation.speech.sentences import WORDNET, sentences

ACCENTS = (
    *("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    *("en-029", "en-us-nyc"),
)
# espeak-ng's variants that sound like people (no robots, whispers or echoes), without duplicates.
VARIANTS = {
    "train": (
        "Alex Andrea Andy Annie AnxiousAndy Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario "
        "Michael Mike Nguyen RicishayMax RicishayMax2 RicishayMax3 Storm Tweaky adam anika "
        "announcer antonio aunty belinda benjamin boris david ed edward edward2 f1 f2 f3 f4 "
        "grandpa gustave iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3 klatt4 klatt5 "
        "m1 m2 m4 m5 m6 m7 max michel miguel norbert pablo paul pedro rob robert sandro shelby "
        "steph steph2 steph3 victor zac"
    ).split(),
    "test": "Alicia Denis f5 grandma linda m3 m8 marcelo quincy travis".split(),
}
MAX_VOICES = len(ACCENTS) * len(VARIANTS["train"])
PITCH = (10, 95)  # within espeak-ng's range of 0 to 99
SPEED = (90, 180)  # words per minute
VARIATION = 0.1  # fraction by which a voice's speed and pitch vary from sentence to sentence
PAUSE = (0.0, 0.6)  # seconds of silence before and after a sentence


@dataclass(frozen=True)
class Order:
    """One sentence to speak, its speaker, and the seed of all its random choices."""

    text: str
    speaker: str
    voice: Voice
    seed: tuple[int, int]


def make_speech(
    output: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    hours: Annotated[float, typer.Option(min=0.0, help="Speech to train on.")] = 10.0,
    voices: Annotated[int, typer.Option(min=1, max=MAX_VOICES, help="Voices in train.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    test_hours: Annotated[float, typer.Option(min=0.0, help="Speech to test on.")] = 0.2,
    test_voices: Annotated[int, typer.Option(min=1, max=80, help="Voices in test.")] = 40,
    wordnet: Annotated[
        bool, typer.Option(help="Half of the sentences from Debian's package wordnet-base.")
    ] = True,
) -> None:
    """Write an audiofolder of synthetic speech, the same for the same arguments."""
    version = espeak.version()
    if wordnet and not WORDNET.is_dir():
        raise typer.BadParameter(
            f"found no {WORDNET}: install Debian's package wordnet-base, or give --no-wordnet"
        )
    if output.exists():
        raise typer.BadParameter(f"{output}: found something there, wanted a new folder")
    torch.set_num_threads(1)  # one process for each core
    chance = Random(seed)
    texts = sentences(chance, WORDNET if wordnet else None)
    with Pool(os.cpu_count()) as pool, Progress() as progress:
        # The test split comes first, so that it does not change with the hours of training speech.
        for split, hours_wanted, number in (
            ("test", test_hours, test_voices),
            ("train", hours, voices),
        ):
            task = progress.add_task(f"speaking {split}, seconds", total=3600 * hours_wanted)
            folder = output / split
            folder.mkdir(parents=True)
            cast = choose_voices(split, number, seed)
            with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
                for order, flac, seconds in spoken(cast, texts, hours_wanted * 3600, seed, pool):
                    name = f"{order.speaker}-{order.seed[1]:06}.flac"
                    (folder / name).write_bytes(flac)
                    row = {"file_name": name, "text": order.text, "speaker": order.speaker}
                    metadata.write(json.dumps(row) + "\n")
                    progress.advance(task, seconds)
    print(f"{output}: SYNTHETIC speech, {hours:g} hours by {voices} voices of {version}")


def choose_voices(split: str, number: int, seed: int) -> list[Voice]:
    """Return ``number`` different voices of a split, with random pitch and speed."""
    chance = Random(seed)
    pairs = [(accent, variant) for accent in ACCENTS for variant in VARIANTS[split]]
    return [
        Voice(accent, variant, chance.randint(*PITCH), chance.randint(*SPEED), split)
        for accent, variant in chance.sample(pairs, number)
    ]


def spoken(
    cast: list[Voice], texts: Iterator[str], seconds: float, seed: int, pool: PoolType
) -> Iterator[tuple[Order, bytes, float]]:
    """Let the voices speak in turn until ``seconds`` of speech are reached.

    Yields each sentence's order, its FLAC file's bytes, and its length in seconds.
    """
    split, first = cast[0].split, 0
    while seconds > 0:
        orders = [
            # Even seeds for train and odd ones for test: they must not draw the same rooms.
            Order(
                text, f"{split}{number:03}", voice, (2 * seed + (split == "test"), first + number)
            )
            for number, (voice, text) in enumerate(zip(cast, islice(texts, len(cast)), strict=True))
        ]
        first += len(orders)
        for order, (flac, length) in zip(orders, pool.imap(record, orders), strict=True):
            if seconds > 0:
                yield order, flac, length
            seconds -= length


def record(order: Order) -> tuple[bytes, float]:
    """Speak and record a sentence; return its FLAC file's bytes and its length in seconds."""
    chance = np.random.default_rng(order.seed)
    speed, pitch = chance.uniform(1 - VARIATION, 1 + VARIATION, size=2)
    voice = replace(
        order.voice,
        speed=round(order.voice.speed * speed),
        pitch=min(99, round(order.voice.pitch * pitch)),
    )
    before, after = np.rint(chance.uniform(*PAUSE, size=2) * SAMPLE_RATE).astype(int)
    speech = np.pad(espeak.speak(order.text, voice), (before, after))
    samples = record_in_room(speech, chance)
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue(), len(samples) / SAMPLE_RATE


if __name__ == "__main__":
    typer.run(make_speech)
