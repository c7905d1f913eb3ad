"""How much a model's word error rate depends on what is around the speech.

    python -m simulation.bench.pauses --model RUN [--data NAME|PATH]

Every utterance of the test half is heard as it is, with digital silence or room noise (pink, 20 dB
below the speech) at each end, with that noise all the time, and joined to recordings of minutes.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from efmodel.config import SAMPLE_RATE
from efmodel.decoding.recogniser import Recogniser
from efmodel.evaluation import WordErrorRate, score
from efmodel.model.loading import load
from efmodel.settings import Settings
from efmodel.speech import corpus
from efmodel.speech.augmentation import noise, silence, speech_level
from efmodel.speech.recorded import InMemory
from efmodel.speech.utterances import Utterance, prepare

PAUSES = (0.2, 0.5, 1.0, 2.0)  # seconds at each end
SNR = 20.0  # dB
MINUTES = (1, 5, 20)
GAPS = (0.0, 0.5)  # seconds between joined utterances


def quiet(samples: Tensor, seconds: float, seed: int) -> Tensor:
    """Return the samples with digital silence at each end."""
    return torch.cat([silence(seconds), samples, silence(seconds)])


def in_noise(samples: Tensor, seconds: float, seed: int) -> Tensor:
    """Return the samples with room noise at each end and throughout."""
    longer = quiet(samples, seconds, seed)
    room = speech_level(samples) * 10 ** (-SNR / 20) * noise(len(longer), 1.0, seed)
    return longer + room


def between_noise(samples: Tensor, seconds: float, seed: int) -> Tensor:
    """Return the samples with room noise at each end, but none under the speech."""
    noisy = in_noise(samples, seconds, seed)
    ends = round(seconds * SAMPLE_RATE)
    noisy[ends : ends + len(samples)] = samples
    return noisy


def joined(utterances: Sequence[Utterance], seconds: float, gap: float) -> Iterator[Utterance]:
    """Yield recordings of at least that many seconds, of utterances in a row; the last is less."""
    parts: list[Utterance] = []
    for utterance in utterances:
        parts.append(utterance)
        if sum(part.seconds + gap for part in parts) >= seconds:
            yield _in_a_row(parts, gap)
            parts = []
    if parts:
        yield _in_a_row(parts, gap)


def _in_a_row(parts: Sequence[Utterance], gap: float) -> Utterance:
    samples = torch.cat([piece for part in parts for piece in (part.samples, silence(gap))])
    return Utterance("joined", InMemory(samples), " ".join(part.text for part in parts), [])


def long_form_wer(
    recognisers: Sequence[Recogniser], recordings: Sequence[Utterance]
) -> list[float]:
    """Return the word error rate of each exit on long recordings."""
    references = [recording.text for recording in recordings]
    compute = WordErrorRate().compute
    rates = []
    for recogniser in recognisers:
        results = [recogniser.transcribe(each.samples.numpy()) for each in recordings]
        texts = [result.text for result in results]
        rates.append(compute(predictions=texts, references=references)["wer"])
    return rates


def main(
    model: Annotated[Path, typer.Option(help="A run folder or a saved model.")],
    data: Annotated[str, typer.Option(help="A corpus by name, or a folder.")] = "sample",
) -> None:
    """Print a table of word error rates at every exit, and what silence and noise give."""
    network, tokenizer = load(model)
    exits = range(1, network.config.num_exits + 1)
    recognisers = [Recogniser.from_pretrained(model, exit) for exit in exits]
    source = corpus.load(*corpus.named(data))
    half = source.train if source.test is None else source.test
    utterances, _ = prepare(half, tokenizer, network.config, to_train=False)
    table = Table("test utterances", *(f"exit {exit}" for exit in exits))

    def add(what: str, rates: Sequence[float]) -> None:
        table.add_row(what, *(f"{100 * rate:.1f}" for rate in rates))

    def scored(change: Callable[[Tensor, float, int], Tensor], seconds: float) -> list[float]:
        changed = [
            each.with_samples(change(each.samples, seconds, seed))
            for seed, each in enumerate(utterances)
        ]
        scores = score(network, changed, tokenizer, Settings.batch_seconds)
        return [exit.wer for exit in scores]

    add("untouched", scored(quiet, 0.0))
    kinds = {"silence": quiet, "room noise": between_noise, "noise throughout": in_noise}
    for name, change in track(kinds.items(), "pauses", transient=True):
        for seconds in PAUSES:
            add(f"{name}, {seconds:g} s at each end", scored(change, seconds))
    for minutes in track(MINUTES, "joined", transient=True):
        for gap in GAPS:
            recordings = list(joined(utterances, 60 * minutes, gap))
            what = f"joined to {minutes} min, {gap:g} s between"
            add(what, long_form_wer(recognisers, recordings))
    Console().print(table)
    for name, samples in without_speech().items():
        print(f"{name}: {[each.transcribe(samples.numpy()).text for each in recognisers]}")


def without_speech() -> dict[str, Tensor]:
    """Return recordings in which nobody speaks."""
    two_seconds = 2 * SAMPLE_RATE
    hum = torch.sin(2 * torch.pi * 50 * torch.arange(two_seconds) / SAMPLE_RATE)
    return {
        "digital silence": silence(2.0),
        "faint white noise": 1e-3 * noise(two_seconds, 0.0, 0),
        "loud white noise": 0.1 * noise(two_seconds, 0.0, 1),
        "pink noise": 0.01 * noise(two_seconds, 1.0, 2),
        "mains hum": 0.05 * hum,
    }


if __name__ == "__main__":
    typer.run(main)
