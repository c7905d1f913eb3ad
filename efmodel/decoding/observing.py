"""What every exit makes of speech whose words are known: the input of calibration."""

from collections.abc import Sequence
from typing import TypedDict

import jiwer
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from efmodel.decoding.calibration import Observations
from efmodel.decoding.curve import Curve
from efmodel.decoding.policy import ExitOutput, parse, score_named
from efmodel.decoding.stages import Engine
from efmodel.decoding.words import Path, Tokens, labels_of, text_of, words
from efmodel.evaluation import edits
from efmodel.model.compute import multiply_adds
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.stages import Engine as TorchEngine
from efmodel.speech import text
from efmodel.speech.ahead import ahead
from efmodel.speech.batches import batches
from efmodel.speech.normaliser import in_units
from efmodel.speech.utterances import Utterance

# What adaptive exits give: ``layers`` is a mean over seconds of audio, ``multiply-adds`` a share of
# what the deepest exit takes.
Adaptive = TypedDict(
    "Adaptive", {"policy": str, "wer": float, "layers": float, "multiply-adds": float}
)


def observe(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    utterances: Sequence[Utterance],
    scores: Sequence[str],
    batch_seconds: float,
) -> Observations:
    """Run all exits on utterances; return their scores and errors.

    Parameters
    ----------
    engine : Engine
        The model, of torch or exported.
    tokenizer : PreTrainedTokenizerBase
        The model's.
    utterances : Sequence of Utterance
        With reference texts.
    scores : Sequence of str
        Names of scores, see :mod:`efmodel.decoding.policy`.
    batch_seconds : float
        Seconds of audio in a batch, padding included.
    """
    tokens = Tokens.of(tokenizer)
    functions = {name: score_named(name) for name in scores}
    values: dict[str, list[list[float]]] = {name: [] for name in scores}
    errors: list[list[int]] = []
    counts: list[int] = []
    seconds: list[float] = []
    for batch in ahead(batches(utterances, batch_seconds, seed=0), _decoded):
        outputs = _all_exits(engine, [each.samples.numpy() for each in batch])
        for utterance, exits in zip(batch, outputs, strict=True):
            spoken = [spelt(output, tokens, tokenizer) for output in exits]
            wrong = [word_errors(utterance.text, each) for each in spoken]
            errors.append([each for each, _ in wrong])
            counts.append(wrong[0][1])
            seconds.append(utterance.seconds)
            for name, score in functions.items():
                values[name].append([score(exits[:e]) for e in range(1, len(exits) + 1)])
    shape = (len(counts), engine.num_exits)
    return Observations(
        {name: np.array(each, float).reshape(shape).T for name, each in values.items()},
        np.array(errors, np.int64).reshape(shape).T,
        np.array(counts, np.int64),
        np.array(seconds, float),
    )


def adaptive_score(
    model: EarlyExitForCTC,
    tokenizer: PreTrainedTokenizerBase,
    utterances: Sequence[Utterance],
    batch_seconds: float,
) -> Adaptive:
    """Return what ``--exit auto`` gives with the thresholds in a model's configuration.

    ``model`` is in evaluation mode; the other parameters are those of ``observe``.
    """
    chosen = parse(model.config.exit_policy, model.config.exit_thresholds or {})
    observed = observe(TorchEngine(model), tokenizer, utterances, list(chosen), batch_seconds)
    compute = multiply_adds(model.config)
    point = Curve(observed, model.config.exit_layers, compute, compute).adaptive(chosen)
    return {
        "policy": point.name,
        "wer": point.wer,
        "layers": point.layers,
        "multiply-adds": point.compute / compute[-1],
    }


def _decoded(batch: list[Utterance]) -> list[Utterance]:
    return [utterance.decoded() for utterance in batch]


def _all_exits(engine: Engine, batch: Sequence[NDArray[np.float32]]) -> list[list[ExitOutput]]:
    """Return the outputs of all exits for each utterance."""
    stages = engine.start(batch)
    at_exits = [stages.advance() for _ in range(engine.num_exits)]
    return [[ExitOutput(x, engine.blank) for x in exits] for exits in zip(*at_exits, strict=True)]


def spelt(output: ExitOutput, tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of an exit's output, normalised as references are."""
    found = words(labels_of(Path.of(output), output.blank), tokens, 1.0, 1.0)
    return text.normalise(text_of(found), tokenizer)[0]


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Return the edits between two texts in words, and the words of the reference."""
    return edits(jiwer.process_words(in_units(reference), in_units(hypothesis)))
