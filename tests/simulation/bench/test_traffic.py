"""Bytes of a round as measured, against a sum over the tensors of the models that clients hold."""

import pytest

from efmodel.model.frozen import parse
from simulation.bench.traffic import PER_EXIT, model_of, run, second_round

HEADER = 128  # bytes before a tensor's values in numpy's .npy format, which Flower sends


@pytest.mark.parametrize(
    ("wire_dtype", "down", "up"), [("float32", 4, 4), ("float16", 2, 2), ("int8", 2, 1)]
)
@pytest.mark.parametrize("freeze", ["", "frontend"])
def test_bytes_are_those_of_the_cut_models_tensors(wire_dtype, down, up, freeze):
    model = model_of("tiny")
    parse(freeze, "all", model.config.num_hidden_layers).keep(model)
    still = {name for name, tensor in model.named_parameters() if not tensor.requires_grad}
    assert bool(still) == bool(freeze)
    sizes = [
        tensor.numel()
        for exit in range(1, model.config.num_exits + 1)
        for name, tensor in model.cut(exit).state_dict().items()
        if name not in still
    ]
    moved = second_round(model, wire_dtype, freeze)
    for found, width in ((moved.down, down), (moved.up, up)):
        assert found == PER_EXIT * sum(HEADER + size * width for size in sizes)


def test_the_reference_is_full_models_both_ways():
    figures = run(("tiny",))
    tensors = model_of("tiny").state_dict().values()
    whole = sum(HEADER + tensor.nbytes for tensor in tensors) / 1e6
    assert {figure.reference for figure in figures} == {2 * PER_EXIT * 3 * whole}
    ratios = [figure.ratio for figure in figures]
    assert 1 > ratios[0] > ratios[3] > ratios[1] > ratios[2] > 0  # float32, frozen, float16, int8
