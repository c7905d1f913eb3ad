"""Eight-bit weights: which layers have them, and that results still belong to one recording."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from efmodel.decoding.recogniser import Recogniser
from efmodel.export import int8
from efmodel.export.folder import Description, is_exported
from efmodel.export.onnx import export
from efmodel.export.runtime import Engine
from tests.efmodel.export.conftest import random_model
from tests.efmodel.export.test_onnx import KINDS, SIZES, voices


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from efmodel.speech import vocabulary

    folder = tmp_path_factory.mktemp("int8")
    model = random_model(hidden_size=64, exit_thresholds={"confidence": [0.0, 0.0]})
    export(model, vocabulary.tokenizer_from(vocabulary.CHARACTERS), folder)
    int8.quantise(folder)
    return folder


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_linear_layers_alone_have_eight_bits(changes, tokenizer, tmp_path):
    export(random_model(**SIZES, **changes), tokenizer, tmp_path)
    float32 = Engine(tmp_path, Description.read(tmp_path))
    stages = int8.quantise(tmp_path)
    for stage in stages:
        graph = onnx.load(stage.file).graph
        weights = {w.name: w for w in graph.initializer}
        kinds = {node.op_type for node in graph.node}
        assert "MatMulInteger" in kinds and "ConvInteger" not in kinds
        for node in graph.node:
            if node.op_type == "MatMul" and "/front_end/" not in node.name:
                assert not set(node.input) & set(weights)  # a product of activations
            if node.op_type == "MatMulInteger":
                assert "/front_end/" not in node.name
                assert weights[node.input[1]].data_type == TensorProto.INT8
    description = Description.read(tmp_path)
    assert description.weights == "int8"
    assert description.largest_difference == max(stage.difference for stage in stages)
    [speech] = voices(2.0)
    before, after = float32.start([speech]), Engine(tmp_path, description).start([speech])
    for _ in range(2):
        [wanted], [found] = before.advance(), after.advance()
        spread = wanted.max() - wanted.min()
        assert 0 < np.abs(found - wanted).max() < 0.1 * spread


def test_a_result_does_not_depend_on_the_other_recordings(folder):
    recogniser = Recogniser.from_pretrained(folder, "auto")
    batch = voices(1.0, 2.5, 0.3, 2.5)
    alone = [recogniser.transcribe(samples) for samples in batch]
    together = [result for _, result in recogniser.transcribe_all(batch)]
    assert any(result.text for result in alone)
    assert [r.words for r in together] == [r.words for r in alone]


def test_a_folder_that_is_not_finished_is_no_exported_recogniser(tokenizer, tmp_path, monkeypatch):
    export(random_model(**SIZES), tokenizer, tmp_path)

    def full(float32, int8):
        raise OSError("No space left on device")

    monkeypatch.setattr(int8, "quantise_graph", full)
    with pytest.raises(OSError):
        int8.quantise(tmp_path)
    assert not is_exported(tmp_path)
