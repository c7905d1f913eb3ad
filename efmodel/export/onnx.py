"""Export of a model to ONNX, a graph per stage, and the check that it says what torch says.

The graphs are traced (``dynamo=False``). With torch 2.11 and onnxruntime 1.32 both of torch's
exporters write every kind of model. For the preset tiny, on one thread, the traced graphs were
written in 0.8 s, the others in 16 s; they differ from torch by 2e-6, the others by 2.5e-4; and they
need no onnxscript. A trace fixes whatever depends on the batch in Python, so what is written is
compared with torch on batches of other sizes.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from efmodel.config import HOP, SAMPLE_RATE, EarlyExitConfig
from efmodel.decoding.stages import Engine
from efmodel.decoding.words import Tokens
from efmodel.export import runtime
from efmodel.export.folder import DESCRIPTION, Description, ExportError, stage_file
from efmodel.export.graphs import exportable, stages
from efmodel.model.compute import multiply_adds
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.mel import WINDOW
from efmodel.model.stages import Engine as TorchEngine
from efmodel.speech.resampling import Samples
from efmodel.speech.vocabulary import normaliser_of

OPSET = 20  # the newest that torch's tracing exporter writes
TOLERANCE = 1e-3  # largest difference of a log-probability from torch's
TRACED_UTTERANCES, TRACED_SAMPLES, TRACED_FRAMES = 2, SAMPLE_RATE, 50  # of the traced batch
# Seconds of each recording of the batches that are compared: alone, alike, and unlike.
BATCHES = ((0.4,), (3.1,), (1.0, 1.0), (2.3, 0.25, 5.0, 1.17))


class ExportedStage(NamedTuple):
    """A stage that was written.

    Attributes
    ----------
    file : Path
        Its graph.
    size : int
        Of the file, in bytes.
    multiply_adds : float
        Per second of audio.
    difference : float
        The largest one between its log-probabilities and torch's (for int8: float32's).
    """

    file: Path
    size: int
    multiply_adds: float
    difference: float


def export(
    model: EarlyExitForCTC,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    report: Callable[[str], None] = lambda _: None,
) -> list[ExportedStage]:
    """Write a recogniser that runs without torch into a folder.

    ``recogniser.json`` is written last: a folder without it is no exported recogniser.

    Parameters
    ----------
    model : EarlyExitForCTC
        In evaluation mode; all of its exits are exported.
    tokenizer : PreTrainedTokenizerBase
        The model's.
    folder : Path
        A new or an empty folder.
    report : callable
        Is told what is being done.

    Raises
    ------
    ExportError
        If there is anything in the folder, or a stage does not say what it says in torch. Then the
        graphs stay there to be looked at.
    """
    make_folder(folder)
    for number, stage in enumerate(stages(exportable(model)), start=1):
        report(f"writing stage {number} of {model.config.num_exits}")
        write_stage(stage, folder / stage_file(number), number, model.config.hidden_size)
    report("comparing with torch")
    description = described(model.config, tokenizer)
    graphs = runtime.Engine(folder, description).graphs
    differences = compare(TorchEngine(model), partial(runtime.Stages, graphs))
    check(differences, folder)
    replace(description, largest_difference=max(differences)).write(folder)
    files = [folder / stage_file(number) for number in range(1, description.num_exits + 1)]
    costs = description.stage_multiply_adds
    return [
        ExportedStage(file, file.stat().st_size, cost, difference)
        for file, cost, difference in zip(files, costs, differences, strict=True)
    ]


def make_folder(folder: Path) -> None:
    """Make a folder, or raise ExportError if there is something in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ExportError(f"output: found {folder} ({error.strerror}), wanted a folder") from None
    if found:
        raise ExportError(f"output: found {found[0]} in {folder}, wanted a new or an empty folder")


def described(config: EarlyExitConfig, tokenizer: PreTrainedTokenizerBase) -> Description:
    """Return the description of a model."""
    tokens = Tokens.of(tokenizer)
    mel = config.frontend == "mel"
    convolutions = [(WINDOW, HOP, WINDOW)] if mel else []  # the spectrogram's frames
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        convolutions.append((kernel, stride, 2 * (kernel // 2) if mel else 0))
    costs = multiply_adds(config)
    return Description(
        tokens=tokens.tokens,
        blank=tokens.blank,
        space=tokens.space,
        silent=sorted(tokens.silent),
        sample_rate=SAMPLE_RATE,
        samples_per_frame=config.samples_per_frame,
        convolutions=convolutions,
        exit_layers=list(config.exit_layers),
        stage_multiply_adds=np.diff(costs, prepend=0.0).tolist(),
        exit_thresholds=config.exit_thresholds or {},
        exit_policy=config.exit_policy,
        normaliser=normaliser_of(tokenizer).fields(),
    )


def write_stage(stage: nn.Module, file: Path, number: int, hidden_size: int) -> None:
    """Write a stage's graph, for batches of any number and length of utterances.

    Parameters
    ----------
    stage : nn.Module
        A stage of :mod:`efmodel.export.graphs`.
    file : Path
        Where it goes.
    number : int
        The stage's; the first one takes samples.
    hidden_size : int
        The model's.
    """
    inputs, outputs = ["samples", "lengths"], ["hidden", "frames", "log_probs"]
    values = torch.zeros(TRACED_UTTERANCES, TRACED_SAMPLES)
    if number > 1:
        inputs, outputs = ["hidden_in", "frames"], ["hidden", "log_probs"]
        values = torch.zeros(TRACED_UTTERANCES, TRACED_FRAMES, hidden_size)
    trace(stage, values, file, inputs, outputs)


def trace(
    module: nn.Module, values: Tensor, file: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Write a module's graph, for batches of any number and length of utterances, and check it.

    Parameters
    ----------
    module : nn.Module
        Takes a batch ``[utterances, time, ...]`` and each utterance's length ``[utterances]``.
    values : Tensor
        A batch of ``TRACED_UTTERANCES``.
    file : Path
        Where it goes.
    inputs, outputs : Sequence of str
        Their names; ``frames`` among them is ``[utterances]``.
    """
    import onnx

    lengths = torch.full([TRACED_UTTERANCES], values.shape[1])
    lengths[1:] //= 2
    axes = {name: {0: "batch", 1: "time"} for name in (*inputs, *outputs)}
    for name in {inputs[1], "frames"} & set(axes):
        del axes[name][1]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer: conditions that depend on the kind alone
        torch.onnx.export(
            module,
            (values, lengths),
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_axes=axes,
            dynamo=False,
        )
    onnx.checker.check_model(str(file), full_check=True)


def compare(
    reference: Engine, start: Callable[[Sequence[Samples]], runtime.Stages | runtime.OneByOne]
) -> list[float]:
    """Return the largest difference between log-probabilities at each of the E exits.

    Parameters
    ----------
    reference : Engine
        One side.
    start : callable
        Returns the other side's stages of a batch.
    """
    largest = np.zeros(reference.num_exits)
    for batch in batches(reference):
        runs = reference.start(batch), start(batch)
        for exit in range(reference.num_exits):
            for one, other in zip(*(run.advance() for run in runs), strict=True):
                same = one.shape == other.shape
                difference = float(np.abs(one - other).max()) if same else np.inf
                largest[exit] = max(largest[exit], difference)
    return [float(each) for each in largest]


def batches(engine: Engine) -> Iterator[list[Samples]]:
    """Yield batches of recordings: made-up voices with pauses and noise, and the shortest one."""
    generator = np.random.default_rng(0)
    shortest = next(size for size in range(1, SAMPLE_RATE) if engine.num_frames(size))
    yield [voice(shortest / SAMPLE_RATE, generator)]
    for seconds in BATCHES:
        yield [voice(each, generator) for each in seconds]


def voice(seconds: float, generator: np.random.Generator) -> Samples:
    """Return samples ``[samples]`` at 16 kHz with a voice's harmonics, pauses and noise."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = generator.uniform(90, 250)
    harmonics = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, 20))
    loudness = np.clip(np.sin(2 * np.pi * 3 * time + generator.uniform(0, 6)), 0, None)
    noise = generator.standard_normal(len(time))
    return np.asarray(0.1 * loudness * harmonics + 0.003 * noise, np.float32)


def check(differences: Sequence[float], folder: Path) -> None:
    """Raise ExportError if a stage differs from torch's by more than ``TOLERANCE``."""
    for number, difference in enumerate(differences, start=1):
        if not difference <= TOLERANCE:  # nor if it is no number
            raise ExportError(
                f"stage {number}: found log-probabilities that differ from torch's by "
                f"{difference:.2g}, wanted at most {TOLERANCE}; the graphs stay in {folder}, "
                f"without {DESCRIPTION}"
            )
