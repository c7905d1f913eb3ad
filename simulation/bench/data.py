"""Many hours of speech: the memory that they take, and how long a training step waits for them.

An hour of speech is put together from the shipped sample, and linked under other names until there
are as many hours as wanted: what is known of a recording is known by its path, so that each link is
checked and decoded like a recording of its own. Each measurement has a process of its own:

- a device with all of the speech, in its first round and in a later one;
- a simulation's process that plays a tenth of 2,351 clients, one after the other;
- a server with a test set.

Training is cut short, since its memory does not depend on the number of steps. All recordings are
checked.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from flwr.app import ArrayRecord, ConfigRecord
from numpy.typing import NDArray
from rich.progress import track

import client_app.training
import efmodel.evaluation
from client_app.recordings import recordings
from client_app.task import Task
from efmodel.config import SAMPLE_RATE
from efmodel.model.loading import starting_model
from efmodel.settings import Settings
from efmodel.speech import ahead, audio, corpus
from server_app.evaluation import CentralEvaluation, test_utterances
from server_app.strategy import PartialFedAvg
from simulation.bench.figure import Figure
from simulation.bench.process import in_own_process, peak_memory_bytes

HOURS, FEW, TEST = 100.0, 1.0, 10.0
CLIENTS, SHARE = 2351, 0.1  # as in the paper's TED-LIUM setting
UTTERANCE = 5.0  # seconds, at least
LINKED = 3600.0  # seconds of speech, after which recordings are links to the earlier ones
TRAINED = 150  # utterances that the device trains on in each measurement
MOST_SHARE = 0.05  # of a step's time that it may wait for data: the reference

Result = dict[str, float]


def write_speech(folder: Path, half: str, hours: float, speakers: int) -> None:
    """Write so many hours as a folder of recordings; what exceeds an hour are links."""
    target = folder / half
    target.mkdir(parents=True)
    rows, seconds = cycle(corpus.load("sample", "").train), 0.0
    first: list[tuple[str, str, float]] = []  # file name, text, seconds
    with (target / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        number = 0
        while seconds < 3600 * hours:
            name = f"{number}.flac"
            if seconds < LINKED:
                first.append((name, *_write_recording(target / name, rows)))
            source, text, duration = first[number % len(first)]
            if source != name:
                os.link(target / source, target / name)
            line = {"file_name": name, "text": text, "speaker": f"speaker {number % speakers}"}
            metadata.write(json.dumps(line) + "\n")
            seconds += duration
            number += 1


def _write_recording(path: Path, rows: Iterator[dict[str, Any]]) -> tuple[str, float]:
    """Write one recording of several of the sample's; return its text and duration."""
    parts: list[NDArray[np.float32]] = []
    texts: list[str] = []
    while sum(part.size for part in parts) < UTTERANCE * SAMPLE_RATE:
        row = next(rows)
        parts.append(audio.load(row["audio"]["bytes"]).numpy())
        texts.append(row["text"])
    samples = np.concatenate(parts)
    soundfile.write(path, samples, SAMPLE_RATE)
    return " ".join(texts), len(samples) / SAMPLE_RATE


@contextmanager
def waits() -> Iterator[list[float]]:
    """Collect the seconds for which each batch is waited for, in training and evaluation."""
    seconds: list[float] = []

    def timed(batches: Iterable[Any], load: Callable[[Any], Any]) -> Iterator[Any]:
        loaded = ahead.ahead(batches, load)
        while True:
            began = time.perf_counter()
            try:
                batch = next(loaded)
            except StopIteration:
                return
            seconds.append(time.perf_counter() - began)
            yield batch

    modules: tuple[Any, ...] = (client_app.training, efmodel.evaluation)
    for module in modules:
        module.ahead = timed
    try:
        yield seconds
    finally:
        for module in modules:
            module.ahead = ahead.ahead


def device(folder: str, trained: int) -> Result:
    """Return what a device's round takes: it has all of the speech."""
    settings = Settings(local_epochs=1)
    model, tokenizer = starting_model(settings)
    task = Task(1, {"data-path": folder}, settings, ConfigRecord())
    began = time.monotonic()
    speech = recordings(task, model.config, tokenizer)
    checked = time.monotonic()
    with waits() as seconds:
        client_app.training.train(model, speech.to_train[:trained], settings, 1, 0)
    return {
        "peak": peak_memory_bytes(),
        "check": checked - began,
        "waited": sum(seconds) / (time.monotonic() - checked),
        "hours": sum(utterance.seconds for utterance in speech.to_train) / 3600,
    }


def clients(folder: str, number: int, share: float) -> Result:
    """Return what the process of a simulation takes that plays a share of so many clients."""
    settings = Settings(data="audiofolder", data_path=folder, local_epochs=1)
    model, tokenizer = starting_model(settings)
    training, checking = 0.0, 0.0
    with waits() as seconds:
        for client in range(0, number, max(1, round(1 / share))):
            place = {"partition-id": client, "num-partitions": number}
            began = time.monotonic()
            speech = recordings(Task(1, place, settings, ConfigRecord()), model.config, tokenizer)
            checked = time.monotonic()
            batch = speech.to_train[: 2 * settings.batch_utterances]
            client_app.training.train(model, batch, settings, 1, client)
            checking += checked - began
            training += time.monotonic() - checked
    return {"peak": peak_memory_bytes(), "check": checking, "waited": sum(seconds) / training}


def server(folder: str) -> Result:
    """Return what a server's central evaluation takes."""
    settings = Settings(data="audiofolder", data_path=folder)
    model, tokenizer = starting_model(settings)
    began = time.monotonic()
    speech = test_utterances(settings, model, tokenizer)
    checked = time.monotonic()
    strategy = PartialFedAvg(model.owner_exits())
    evaluate = CentralEvaluation(model, tokenizer, speech, strategy, settings)
    arrays = ArrayRecord(model.state_dict())
    with waits() as seconds:
        evaluate(arrays)
    took = time.monotonic() - checked
    return {
        "peak": peak_memory_bytes(),
        "check": checked - began,
        "waited": sum(seconds) / took,
        "took": took,
    }


def run(
    hours: float = HOURS,
    few: float = FEW,
    test: float = TEST,
    number: int = CLIENTS,
    share: float = SHARE,
    trained: int = TRAINED,
) -> list[Figure]:
    """Measure ``hours`` of speech beside ``few``, and a test set of ``test`` hours."""
    before = os.environ.get("XDG_CACHE_HOME")
    results: dict[tuple[str, bool], Result] = {}
    with tempfile.TemporaryDirectory(prefix="ef-asr-data-") as folder:
        try:
            for much in track((False, True), "data", transient=True):
                # An index of its own: nothing is known of the recordings.
                os.environ["XDG_CACHE_HOME"] = f"{folder}/cache-{much}"
                holders = number if much else max(2, round(number * few / hours))
                speech = Path(folder) / f"speech-{much}"
                write_speech(speech / "own", "train", hours if much else few, holders)
                write_speech(speech / "test", "test", test if much else few, 1)
                own = str(speech / "own")
                results["a device, first round", much] = in_own_process(device, own, trained)
                results["a device, later round", much] = in_own_process(device, own, trained)
                results["clients", much] = in_own_process(clients, own, holders, share)
                results["server", much] = in_own_process(server, str(speech / "test"))
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before
    return figures(results, hours, few, test, number)


def figures(
    results: dict[tuple[str, bool], Result], hours: float, few: float, test: float, number: int
) -> list[Figure]:
    """Return the table's lines: each process with much speech beside the same with little."""
    lines = []
    for who in dict.fromkeys(who for who, _ in results):
        much, little = results[who, True], results[who, False]
        name = f"a tenth of {number} clients" if who == "clients" else who
        reference = f"{few:g} h"
        what = f"{name}, {test if who == 'server' else hours:g} h: "
        lines += [
            Figure(f"{what}peak memory", much["peak"] / 1e6, little["peak"] / 1e6, "MB", reference),
            Figure(f"{what}to check and index", much["check"], little["check"], "s", reference),
            Figure(f"{what}a step's wait for data", 100 * much["waited"], 100 * MOST_SHARE, "%",
                   "the goal"),
        ]  # fmt: skip
        if "took" in much:
            lines.append(
                Figure(f"{what}one evaluation", much["took"], little["took"], "s", reference)
            )
    return lines
