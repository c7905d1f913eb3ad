"""Thousands of clients, as in the paper's TED-LIUM setting, against a hundred of them.

Each of 2,351 speakers has two utterances cut from the shipped sample; a tenth of the clients train
in a round. The memory of the server process must not grow with the number of clients.
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
    """Write an audiofolder of ``speakers`` speakers, with utterances cut from the sample."""
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
        small, large = (federation(speech, clients, rounds) for clients in (few, many))
    reference = f"{few} clients"
    return [
        Figure(f"{many} clients, server's peak memory", large.server.whole / 1e6,
               small.server.whole / 1e6, "MB", reference),
        Figure(f"{many} clients, of which its own (without libraries and Ray's object store)",
               large.server.private / 1e6, small.server.private / 1e6, "MB", reference),
        Figure(f"{many} clients, the whole command", large.seconds / 60, small.seconds / 60,
               "min", reference),
        Figure(f"{many} clients, a tenth a round: clients a minute, round 2 on", pace(large),
               pace(small), "", reference),
    ]  # fmt: skip


def federation(speech: Path, clients: int, rounds: int) -> Federation:
    """Run a federation with the preset ``tiny``, a tenth of the clients in a round."""
    keys = ("fraction-train=0.1", "local-epochs=1", "lr-schedule=constant")
    options = [word for key in keys for word in ("--set", key)]
    return simulated(
        "--data", str(speech), "--nodes", str(clients), "--rounds", str(rounds), *options
    )


def pace(federation: Federation) -> float:
    """Return the clients trained per minute; round 1 is left out, since it includes the start."""
    later = federation.rounds[1:]
    minutes = sum(float(record["train-seconds"]) for record in later) / 60
    return sum(int(record["answered"]) for record in later) / minutes
