"""Eight-bit weights for an exported recogniser: a quarter of the size, and less time.

The weights of linear layers are rounded once, each output channel with a range of its own; what
goes into a layer is rounded while the graph runs. The rest stays float32: products of activations,
convolutions (onnxruntime's with integers are slow, and cost accuracy), and the mel filters, whose
input spans many orders of magnitude.
"""

import logging
from dataclasses import replace
from pathlib import Path

from efmodel.export import runtime
from efmodel.export.folder import DESCRIPTION, Description, stage_file
from efmodel.export.onnx import ExportedStage, compare


def quantise(folder: Path) -> list[ExportedStage]:
    """Replace the graphs of an exported recogniser by graphs with eight-bit weights.

    Returns the stages, whose ``difference`` is that from float32: it is not checked, for what it
    costs shows in word errors only.

    Parameters
    ----------
    folder : Path
        As :func:`efmodel.export.onnx.export` wrote it.
    """
    description = Description.read(folder)
    before = runtime.Engine(folder, description)
    (folder / DESCRIPTION).unlink()  # until all graphs are written
    files = [folder / stage_file(number) for number in range(1, description.num_exits + 1)]
    for file in files:
        quantise_graph(file, file)
    differences = compare(before, runtime.Engine(folder, description).start)
    replace(description, largest_difference=max(differences), weights="int8").write(folder)
    costs = description.stage_multiply_adds
    return [
        ExportedStage(file, file.stat().st_size, cost, difference)
        for file, cost, difference in zip(files, costs, differences, strict=True)
    ]


def quantise_graph(float32: Path, int8: Path) -> None:
    """Write a graph with eight-bit weights; both files may be the same."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(float32)
    front_end = [node.name for node in graph.graph.node if "/front_end/" in node.name]
    advice, logging.root.disabled = logging.root.disabled, True  # to optimise the graph before
    try:
        quantize_dynamic(
            graph,
            int8,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=front_end,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        logging.root.disabled = advice
    onnx.checker.check_model(str(int8), full_check=True)
