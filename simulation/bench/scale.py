"""Clients by the thousand, as in the paper's TED-LIUM setting: what grows with them, what not.

Each of 2,351 speakers has two utterances, cut from the shipped sample; a tenth of them train in a
round. What must not grow with the federation is the server process.
"""

import io
import json
import tempfile
from itertools import cycle
from pathlib import Path

import soundfile

from efmodel.speech import corpus
from simulation.bench.federation import Federation, simulated
from simulation.bench.figure import Figure

PAPER, FEW = 2351, 100  # clients
ROUNDS = 2
UTTERANCES = 2  # of each speaker
SECONDS = 1.2  # of each utterance: enough for a digit


def write_speakers(folder: Path, speakers: int) -> Path:
    """Write an audiofolder of so many speakers, each with utterances cut from the sample."""
    half = folder / "train"
    half.mkdir(parents=True)
    rows = cycle(corpus.load("sample", "").train)
    with (half / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for number in range(UTTERANCES * speakers):
            row = next(rows)
            with soundfile.SoundFile(io.BytesIO(row["audio"]["bytes"])) as recording:
                rate = recording.samplerate
                samples = recording.read(int(SECONDS * rate), dtype="float32")
            word = row["text"].split()[0]
            name = f"{number}.flac"
            soundfile.write(half / name, samples, rate)
            speaker = f"speaker {number // UTTERANCES}"
            line = {"file_name": name, "text": word, "speaker": speaker}
            metadata.write(json.dumps(line) + "\n")
    return folder


def run(many: int = PAPER, few: int = FEW, rounds: int = ROUNDS) -> list[Figure]:
    """Measure a federation of many clients beside one of few, a tenth of them in a round."""
    with tempfile.TemporaryDirectory(prefix="ef-asr-speakers-") as folder:
        speech = write_speakers(Path(folder) / "speech", many)
        least, most = (federation(speech, clients, rounds) for clients in (few, many))
    beside = f"{few} clients"
    return [
        Figure(f"{many} clients, server's peak memory", most.server.whole / 1e6,
               least.server.whole / 1e6, "MB", beside),
        Figure(f"{many} clients, of it its own (the rest: libraries, Ray's object store)",
               most.server.own / 1e6, least.server.own / 1e6, "MB", beside),
        Figure(f"{many} clients, the whole command", most.seconds / 60, least.seconds / 60,
               "min", beside),
        Figure(f"{many} clients, a tenth a round: clients a minute, round 2 on", pace(most),
               pace(least), "", beside),
    ]  # fmt: skip


def federation(speech: Path, clients: int, rounds: int) -> Federation:
    """Run one with ``tiny``, a tenth of the clients in a round."""
    keys = ("fraction-train=0.1", "local-epochs=1", "lr-schedule=constant")
    chosen = [part for key in keys for part in ("--set", key)]
    return simulated(
        "--data", str(speech), "--nodes", str(clients), "--rounds", str(rounds), *chosen
    )


def pace(federation: Federation) -> float:
    """Return the clients that trained in a minute, round 1 with its start-up left out."""
    later = federation.rounds[1:]
    minutes = sum(each["train-seconds"] for each in later) / 60
    return float(sum(each["answered"] for each in later)) / minutes
