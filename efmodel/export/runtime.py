"""An exported recogniser's engine: onnxruntime and numpy, without torch.

The stages go through onnxruntime one by one, so a recording that stops early costs as little here
as in torch.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efmodel.export.folder import Description, ExportError, stage_file
from efmodel.speech.resampling import Samples


class Engine:
    """A model of ONNX that runs in stages, for :mod:`efmodel.decoding`.

    Parameters
    ----------
    folder : Path
        Folder of an exported recogniser.
    description : Description
        What it holds.
    exit : int, optional
        The exit (from 1) at which the model ends: the stages behind it are not loaded. By default
        the deepest one.

    Raises
    ------
    ExportError
        If there is no such exit, a graph cannot be read, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path, description: Description, exit: int | None = None) -> None:
        if exit is not None and not 1 <= exit <= description.num_exits:
            raise ExportError(f"exit: found {exit}, wanted 1 to {description.num_exits}")
        self.num_exits = exit or description.num_exits
        self.exit_layers: Sequence[int] = tuple(description.exit_layers[: self.num_exits])
        self.samples_per_frame = description.samples_per_frame
        self.blank = description.blank
        self.num_frames = description.num_frames
        self.graphs = [
            graph(folder / stage_file(number)) for number in range(1, self.num_exits + 1)
        ]

    def start(self, batch: Sequence[Samples]) -> "OneByOne":
        """Return the stages of a batch, none of which has run."""
        return OneByOne(self.graphs, batch)


class OneByOne:
    """Runs the utterances of a batch through a model one after another.

    Together they would save no time on a CPU, and need memory for all. With int8, whose rounding
    follows the largest value in a batch, one utterance would change another's result.

    Parameters
    ----------
    graphs, batch
        As for ``Stages``.
    """

    def __init__(self, graphs: Sequence[Any], batch: Sequence[Samples]) -> None:
        self._utterances = [Stages(graphs, [samples]) for samples in batch]

    def advance(self, to: int | None = None) -> list[NDArray[np.float32]]:
        """Run the next stage, or all up to exit ``to``; of their heads only the last one is run.

        Returns log-probabilities ``[frames, vocab]`` of each utterance on the way.
        """
        return [log_probs for stages in self._utterances for log_probs in stages.advance(to)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only: positions among those still on the way."""
        self._utterances = [self._utterances[row] for row in rows]


class Stages:
    """Runs a padded batch of utterances through a model, one stage at a time.

    Parameters
    ----------
    graphs : Sequence of onnxruntime.InferenceSession
        The stages, shallow to deep.
    batch : Sequence of ndarray
        Samples ``[samples]`` at 16 kHz, float32, of each utterance; each gives at least one frame.

    Attributes
    ----------
    exit : int
        The exit that was reached, from 1; 0 at the start.
    """

    def __init__(self, graphs: Sequence[Any], batch: Sequence[Samples]) -> None:
        self.exit = 0
        self._graphs = graphs
        samples, lengths = padded(batch)
        self._inputs: dict[str, NDArray[Any]] = {"samples": samples, "lengths": lengths}

    def advance(self, to: int | None = None) -> list[NDArray[np.float32]]:
        """Run the next stage, or all up to exit ``to``; of their heads only the last one is run.

        Returns log-probabilities ``[frames, vocab]`` of each utterance on the way.
        """
        to = to or self.exit + 1
        while self.exit < to:
            self.exit += 1
            log_probs = self._run(self._graphs[self.exit - 1], with_head=self.exit == to)
        lengths = self._inputs["frames"].tolist()
        return [frames[:length] for frames, length in zip(log_probs, lengths, strict=True)]

    def _run(self, stage: Any, with_head: bool) -> NDArray[np.float32]:
        """Run a stage, and return its head's output, or nothing if that is not wanted."""
        from onnxruntime import RunOptions

        options = RunOptions()
        options.only_execute_path_to_fetches = True  # a head that nobody asks for is not run
        wanted = [o.name for o in stage.get_outputs() if with_head or o.name != "log_probs"]
        found = dict(zip(wanted, stage.run(wanted, self._inputs, options), strict=True))
        frames = found["frames"] if "frames" in found else self._inputs["frames"]
        self._inputs = {"hidden_in": found["hidden"], "frames": frames}
        log_probs: NDArray[np.float32] = found.get("log_probs", np.empty((len(frames), 0, 0)))
        return log_probs


def padded(batch: Sequence[Samples]) -> tuple[Samples, NDArray[np.int64]]:
    """Return utterances as one array ``[batch, samples]``, and the number of samples of each."""
    lengths = np.array([len(samples) for samples in batch], np.int64)
    rows = np.zeros((len(batch), lengths.max()), np.float32)
    for row, samples in zip(rows, batch, strict=True):
        row[: len(samples)] = samples
    return rows, lengths


def graph(file: Path) -> Any:
    """Return the onnxruntime session of a stage.

    ``OMP_NUM_THREADS`` limits the threads, as it does in torch.

    Raises
    ------
    ExportError
        If it cannot be read, or onnxruntime is not installed.
    """
    # Without it release 1.32 gives each machine an id in ~/.cache/Microsoft, and sends events.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise ExportError(
            "onnxruntime: found no such package, wanted it for an exported model: "
            "pip install onnxruntime"
        ) from None
    share_memory()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.enable_mem_pattern = False  # a plan of memory for one length is none for the next
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Each stage has threads of its own: those of the others would spin on the cores it needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: all cores
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each kind of fault
        reason = " ".join(str(error).split())
        raise ExportError(f"{file}: found no readable graph ({reason})") from None


@cache
def share_memory() -> None:
    """Give all stages one pool of memory, for the whole process; each would keep its own.

    With 30 s of audio the preset small then takes 120 MB less.
    """
    from onnxruntime import (
        OrtAllocatorType,
        OrtArenaCfg,
        OrtMemoryInfo,
        OrtMemType,
        create_and_register_allocator,
    )

    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    grow_as_needed = 1  # not to the next power of two
    create_and_register_allocator(memory, OrtArenaCfg(0, grow_as_needed, -1, -1))
