"""What a curious server, or a curious device, learns from updates: two simple published attacks.

    python -m simulation.bench.attack [--model RUN] [--clients N] [--utterances N] [--passes N]

Each voice of the sample is a client that trains on some of its utterances. The attacker has other
utterances of every voice, and sees one round through each of ``views``. It asks:

- Whose voice is in it? It trains on its own utterances of a voice as a client would, and compares
  the change with what it sees (as Tomashenko et al., arXiv 2111.03777, compare speakers' models).
- Was this utterance trained on? It was, if its loss has fallen more than that of others (Yeom et
  al., arXiv 1709.01604; with the loss before the round as each utterance's own threshold).

Both are scored by the area under the ROC curve: 0.5 is guessing, 1 is certainty. It trains on one
thread.
"""

import copy
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from transformers import PreTrainedTokenizerBase

from client_app.training import train
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.loading import load, starting_model
from efmodel.settings import Settings
from efmodel.speech import corpus
from efmodel.speech.batches import collate
from efmodel.speech.text import space
from efmodel.speech.utterances import Utterance, prepare
from server_app.accountant import multiplier_for
from server_app.privacy import local_multiplier
from server_app.strategy.clipping import shrinking

ROUND = 20
COHORT = 3
CENTRAL_EPSILON, LOCAL_EPSILON, DELTA = 8.0, 8.0, 1e-5

View = Callable[[Sequence[Tensor]], Tensor]  # the updates of a round, and what is seen of them


@dataclass(frozen=True)
class Voice:
    """One client: what it trains on, and what the attacker has of the same voice."""

    trained: list[Utterance]
    other: list[Utterance]


@dataclass(frozen=True)
class Bench:
    """The model that is sent in the attacked round, and how a client trains it."""

    start: EarlyExitForCTC
    tokenizer: PreTrainedTokenizerBase
    settings: Settings

    def change(self, utterances: list[Utterance], seed: int) -> Tensor:
        """Return how a client's training moves the model, all values in a row."""
        model = copy.deepcopy(self.start)
        train(model, utterances, self.settings, ROUND, seed, space=space(self.tokenizer))
        moved = parameters_to_vector(model.parameters())
        return (moved - parameters_to_vector(self.start.parameters())).detach()

    def losses(self, change: Tensor, utterances: Sequence[Utterance]) -> list[float]:
        """Return each utterance's loss, mean over the exits, on the model moved by ``change``.

        It is inf where noise has made a model that computes nothing.
        """
        model = copy.deepcopy(self.start).eval()
        vector_to_parameters(
            parameters_to_vector(self.start.parameters()) + change, model.parameters()
        )
        with torch.no_grad():
            found = [float(model(**collate([each])).losses.mean()) for each in utterances]
        return [loss if math.isfinite(loss) else math.inf for loss in found]


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Return the probability that a positive scores higher than a negative; half for a tie."""
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def similarities(seen: Tensor, references: Sequence[Tensor]) -> list[float]:
    """Return how much a change resembles each voice's own, beyond what all voices share."""
    shared = torch.stack(list(references)).mean(0)
    return [float(torch.cosine_similarity(seen - shared, r - shared, dim=0)) for r in references]


def views(bound: float, clients: int) -> dict[str, tuple[int, View]]:
    """Return by name how many clients are in the round, and what the attacker sees of them.

    Parameters
    ----------
    bound : float
        C, to which updates are clipped where there is noise.
    clients : int
        Clients of the federation, which decides the noise for ``CENTRAL_EPSILON``.
    """

    def clip(update: Tensor, norm: float) -> Tensor:
        return update * shrinking(float(update.norm()), norm)

    def mean(updates: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(updates)).mean(0)

    def clipped(updates: Sequence[Tensor]) -> Tensor:
        return clip(updates[0], bound / 2)

    def local(updates: Sequence[Tensor]) -> Tensor:
        deviation = 2 * bound * local_multiplier(LOCAL_EPSILON, DELTA)
        return noisy(clip(updates[0], bound), deviation)

    share = COHORT / clients
    multiplier = multiplier_for(CENTRAL_EPSILON, DELTA, Settings.rounds, share)

    def central(updates: Sequence[Tensor]) -> Tensor:
        short = mean([clip(update, bound) for update in updates])
        return noisy(short, multiplier * bound / len(updates))

    return {
        "one client's update": (1, mean),
        "the same, local-clip-norm at half its length": (1, clipped),
        f"the same, local-epsilon {LOCAL_EPSILON:g}": (1, local),
        f"the mean of {COHORT} clients": (COHORT, mean),
        f"the mean of {clients // 2} clients": (clients // 2, mean),
        f"the mean of {COHORT}, dp-epsilon {CENTRAL_EPSILON:g} over the run": (COHORT, central),
    }


def noisy(values: Tensor, deviation: float) -> Tensor:
    """Return the values with Gaussian noise of that standard deviation."""
    return values + deviation * torch.randn(values.shape)


def voices(bench: Bench, number: int, utterances: int) -> list[Voice]:
    """Return voices of the sample's training half, each with two sets of so many utterances."""
    half = corpus.load("sample", "").train
    speakers = half["speaker"][:]
    result = []
    for speaker in sorted(set(speakers))[:number]:
        rows = [row for row, of in enumerate(speakers) if of == speaker]
        random.Random(speaker).shuffle(rows)
        spoken = half.select(rows[: 2 * utterances])
        found, _ = prepare(spoken, bench.tokenizer, bench.start.config, to_train=True)
        result.append(Voice(found[:utterances], found[utterances:]))
    return result


def prepared(model: Path | None, passes: int, seed: int) -> Bench:
    """Return what is attacked: a run's model, or one that has heard other voices for a while."""
    settings = Settings(vocabulary="en", lr_schedule="constant", seed=seed)
    torch.manual_seed(seed)
    if model is not None:
        return Bench(*load(model), settings)
    start, tokenizer = starting_model(settings)
    heard, _ = prepare(
        corpus.load("sample", "").test, tokenizer, start.config, to_train=True
    )  # voices that no client has
    for number in track(range(passes), "warm-up", transient=True):
        once = Settings(local_epochs=1, lr_schedule="constant")
        train(start, heard, once, 1, number, space=space(tokenizer))
    return Bench(start, tokenizer, settings)


def attacked(bench: Bench, clients: Sequence[Voice], seed: int) -> Table:
    """Return the table of both attacks' scores through each view."""
    updates, references, before = [], [], []
    nothing = torch.zeros_like(parameters_to_vector(bench.start.parameters()))
    for number, voice in enumerate(track(clients, "updates", transient=True)):
        updates.append(bench.change(voice.trained, 2 * number))
        references.append(bench.change(voice.other, 2 * number + 1))
        before.append(bench.losses(nothing, voice.trained + voice.other))
    bound = statistics.median(float(update.norm()) for update in updates)
    chance = random.Random(seed)
    table = Table("what is seen", "whose voice", "which utterance")
    for name, (size, view) in views(bound, len(clients)).items():
        voice_scores, utterance_scores = [], []
        for target, voice in enumerate(track(clients, name, transient=True)):
            others = [place for place in range(len(clients)) if place != target]
            cohort = [target, *chance.sample(others, size - 1)]
            seen = view([updates[place] for place in cohort])
            alike = similarities(seen, references)
            absent = [alike[place] for place in others if place not in cohort]
            voice_scores.append(auc([alike[place] for place in cohort], absent))
            after = bench.losses(seen, voice.trained + voice.other)
            fallen = [b - a for b, a in zip(before[target], after, strict=True)]
            size_trained = len(voice.trained)
            utterance_scores.append(auc(fallen[:size_trained], fallen[size_trained:]))
        table.add_row(name, shown(voice_scores), shown(utterance_scores))
    return table


def shown(scores: Sequence[float]) -> str:
    """Return the mean of scores, and its standard error."""
    error = statistics.stdev(scores) / math.sqrt(len(scores))
    return f"{statistics.mean(scores):.2f} ± {error:.2f}"


def main(
    model: Annotated[
        Path | None, typer.Option(help="A run folder or a saved model to attack.")
    ] = None,
    clients: Annotated[int, typer.Option(help="Voices of the sample, at most 18.")] = 18,
    utterances: Annotated[int, typer.Option(help="Of a client; the attacker has as many.")] = 10,
    passes: Annotated[int, typer.Option(help="Over other voices, before the round.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the model, the cohorts and the noise.")] = 0,
) -> None:
    """Print how well both attacks do through each view."""
    torch.set_num_threads(1)
    bench = prepared(model, passes, seed)
    speaking = voices(bench, clients, utterances)
    torch.manual_seed(seed)
    Console(width=120).print(attacked(bench, speaking, seed))


if __name__ == "__main__":
    typer.run(main)
