"""What adaptive exits save, measured: word errors, layers, multiply-adds and seconds.

    python -m simulation.bench.adaptive --model RUN --data NAME|PATH [--seconds 120]

Thresholds come from the speech of every second test speaker, all figures from the other speakers.
Seconds are measured, on two threads: each way of stopping takes its turn, a few times over. The
reference of every ratio is the deepest exit in the same run. A second table has deadlines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated

import jiwer
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.decoding.calibration import thresholds
from efmodel.decoding.curve import Curve, Point
from efmodel.decoding.observing import observe
from efmodel.decoding.policy import SCORES, ExitPolicy
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.stages import stage_costs
from efmodel.decoding.words import Tokens
from efmodel.evaluation import BATCH_SECONDS
from efmodel.model.compute import multiply_adds
from efmodel.model.loading import load
from efmodel.model.stages import Engine
from efmodel.speech import corpus
from efmodel.speech.utterances import Utterance, prepare
from simulation.bench.timing import median_seconds_in_turns

THREADS = 2
REPEATS = 3
TOLERANCES = (0.0, 0.02, 0.05)
DEADLINES = (0.4, 0.6, 0.8, 1.2)  # as shares of what the deepest exit takes


def halves(
    data: str, tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig
) -> tuple[list[Utterance], list[Utterance]]:
    """Return the utterances of every second test speaker, and those of the others."""
    source = corpus.load(*corpus.named(data))
    test = source.train if source.test is None else source.test
    speakers = test["speaker"][:]
    chosen = set(sorted(set(speakers))[::2])
    found = []
    for half in (True, False):
        rows = [row for row, speaker in enumerate(speakers) if (speaker in chosen) is half]
        utterances, _ = prepare(test.select(rows), tokenizer, config, to_train=False)
        found.append([utterance.decoded() for utterance in utterances])
    return found[0], found[1]


def up_to(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """Return the first utterances, up to so many seconds in all."""
    total, chosen = 0.0, []
    for utterance in utterances:
        total += utterance.seconds
        chosen.append(utterance)
        if total >= seconds:
            break
    return chosen


def main(
    model: Annotated[Path, typer.Option(help="A run folder or a saved model.")],
    data: Annotated[str, typer.Option(help="A corpus by name, or a folder.")] = "sample",
    seconds: Annotated[float, typer.Option(help="Seconds of speech that are timed.")] = 120.0,
) -> None:
    """Print a table of all fixed exits, all policies at several tolerances, and the oracle."""
    torch.set_num_threads(THREADS)
    network, tokenizer = load(model)
    config, tokens = network.config, Tokens.of(tokenizer)
    held_out, others = halves(data, tokenizer, config)
    names, engine = list(SCORES), Engine(network)
    seen = observe(engine, tokenizer, held_out, names, BATCH_SECONDS)
    costs = multiply_adds(config)
    measured = observe(engine, tokenizer, others, names, BATCH_SECONDS)
    curve = Curve(measured, list(config.exit_layers), costs, costs)

    points = curve.fixed()
    recognisers = [Recogniser(Engine(network.cut(e + 1)), tokens) for e in range(config.num_exits)]
    for name in names:
        for tolerance in TOLERANCES:
            found = thresholds(seen.histogram(name), costs, tolerance)
            exits = measured.stops({name: found})
            points.append(curve.point(f"{name}, {100 * tolerance:g} %", exits))
            recognisers.append(Recogniser(engine, tokens, ExitPolicy({name: found})))

    timed = up_to(others, seconds)
    speech = [utterance.samples.numpy() for utterance in timed]
    alone = median_seconds_in_turns([one_by_one(r, speech) for r in recognisers], REPEATS, "single")
    batched = median_seconds_in_turns([at_once(r, speech) for r in recognisers], REPEATS, "batched")
    deepest = config.num_exits - 1
    audio = sum(map(len, speech)) / SAMPLE_RATE
    print(
        f"{model}, {data}: thresholds from {len(held_out)} utterances, figures of {len(others)} "
        f"others; {audio:.0f} s of them timed: the deepest exit takes {alone[deepest]:.2f} s one "
        f"by one, {batched[deepest]:.2f} s in batches of {BATCH_SECONDS:g} s"
    )
    times = [
        [f"{100 * one / alone[deepest]:.0f} %", f"{100 * many / batched[deepest]:.0f} %"]
        for one, many in zip(alone, batched, strict=True)
    ]
    print_table([*points, curve.oracle()], [*times, ["", ""]], points[deepest])
    shown = ", ".join(
        f"exit {e + 1} {ranking(recognisers[e], others):.2f}" for e in range(deepest + 1)
    )
    print(f"a right word is more confident than a wrong one with a chance of: {shown}")
    print_deadlines(engine, tokens, [0, *config.exit_layers], timed, alone[deepest] / len(timed))


def print_deadlines(
    engine: Engine,
    tokens: Tokens,
    layers: Sequence[int],
    utterances: Sequence[Utterance],
    whole: float,
) -> None:
    """Print what deadlines cost and whether they are kept, recordings one by one.

    Parameters
    ----------
    engine, tokens
        Of the model.
    layers : Sequence of int
        The layers that run up to each exit; none for exit 0, where nothing runs.
    utterances : Sequence of Utterance
        What is transcribed.
    whole : float
        Seconds that the deepest exit takes for one of them on average.
    """
    costs = stage_costs(engine)
    table = Table("deadline, ms", "WER %", "layers", "median, ms", "late", "by at most, ms")
    for share in DEADLINES:
        deadline = share * whole
        recogniser = Recogniser(engine, tokens, ExitPolicy(deadline=deadline, stage_costs=costs))
        results, late = [], []
        for utterance in utterances:
            began = perf_counter()
            results.append(recogniser.transcribe(utterance.samples.numpy()))
            late.append(perf_counter() - began - deadline)
        wer = jiwer.wer([each.text for each in utterances], [each.text for each in results])
        table.add_row(
            f"{1000 * deadline:.1f} ({100 * share:g} %)",
            f"{100 * wer:.2f}",
            f"{np.mean([layers[each.exit] for each in results]):.2f}",
            f"{1000 * (np.median(late) + deadline):.1f}",
            f"{100 * np.mean(np.array(late) > 0):.0f} %",
            f"{1000 * max(0.0, *late):.1f}",
        )
    Console(width=110).print(table)


def print_table(points: Sequence[Point], times: Sequence[Sequence[str]], deepest: Point) -> None:
    """Print a row for each point, with its times one by one and batched."""
    names = ("stops at", "WER %", "relative", "layers", "multiply-adds", "seconds, single",
             "seconds, batched")  # fmt: skip
    table = Table()
    for name in names:
        table.add_column(name, no_wrap=True)
    for point, measured in zip(points, times, strict=True):
        table.add_row(
            point.name,
            f"{100 * point.wer:.2f}",
            point.against(deepest),
            f"{point.layers:.2f}",
            f"{100 * point.compute / deepest.compute:.0f} %",
            *measured,
        )
    Console(width=110).print(table)


def ranking(recogniser: Recogniser, utterances: Sequence[Utterance]) -> float:
    """Return how well words' confidences rank errors: the chance that a right word has more.

    Of a right and a wrong word drawn at random (the area under the ROC curve): 1 is perfect, 0.5
    is chance. Words that are missing have no confidence and do not count.
    """
    right: list[float] = []
    wrong: list[float] = []
    for utterance in utterances:
        words = recogniser.transcribe(utterance.samples.numpy()).words
        if not words:
            continue
        aligned = jiwer.process_words(utterance.text, " ".join(word.text for word in words))
        for chunk in aligned.alignments[0]:
            spoken = words[chunk.hyp_start_idx : chunk.hyp_end_idx]
            (right if chunk.type == "equal" else wrong).extend(w.confidence for w in spoken)
    if not (right and wrong):
        return float("nan")
    above = np.subtract.outer(right, wrong)
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def one_by_one(recogniser: Recogniser, speech: Sequence[NDArray[np.float32]]) -> Callable[[], None]:
    """Return a function that transcribes one recording after another."""

    def work() -> None:
        for samples in speech:
            recogniser.transcribe(samples)

    return work


def at_once(recogniser: Recogniser, speech: Sequence[NDArray[np.float32]]) -> Callable[[], None]:
    """Return a function that transcribes recordings in batches."""

    def work() -> None:
        for _ in recogniser.transcribe_all(speech):
            pass

    return work


if __name__ == "__main__":
    typer.run(main)
