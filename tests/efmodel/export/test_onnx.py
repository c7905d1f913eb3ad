"""Every kind of model says in ONNX what it says in torch, or is not exported."""

import json

import numpy as np
import pytest
import torch

from efmodel.decoding.words import Tokens
from efmodel.export import folder as folders
from efmodel.export import onnx, runtime
from efmodel.export.folder import Description, ExportError
from efmodel.export.graphs import exportable
from efmodel.model.lora import with_adapters
from efmodel.model.stages import Engine
from tests.efmodel.export.conftest import random_model

KINDS = {
    "mel, conformer": {"layer_type": "conformer", "conv_depthwise_kernel_size": 7},
    "mel by utterance, post-norm": {"mel_normalisation": "utterance",
                                    "do_stable_layer_norm": False},
    "waveform with group norm, wavlm": {"frontend": "waveform", "layer_type": "wavlm"},
    "waveform with layer norm, positions of data2vec": {
        "frontend": "waveform", "feat_extract_norm": "layer", "conv_bias": True,
        "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
}  # fmt: skip
SIZES = {"num_hidden_layers": 2, "exit_layers": [1, 2]}


def voices(*seconds: float) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    return [onnx.voice(each, generator) for each in seconds]


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_each_stage_says_what_torch_says_alone_and_in_batches(changes, tokenizer, tmp_path):
    model = random_model(**SIZES, **changes)
    written = onnx.export(model, tokenizer, tmp_path)
    assert [stage.file.name for stage in written] == ["stage-1.onnx", "stage-2.onnx"]
    assert all(stage.difference < 1e-4 and stage.multiply_adds > 0 for stage in written)
    description = Description.read(tmp_path)
    assert description.largest_difference == max(stage.difference for stage in written)
    engine, torchs = runtime.Engine(tmp_path, description), Engine(model)
    sizes = [*range(0, 3_000, 37), 16_000, 54_321]
    assert [engine.num_frames(n) for n in sizes] == [torchs.num_frames(n) for n in sizes]
    batch = voices(0.5, 3.0, 1.7, 1.7, 0.1)
    together = runtime.Stages(engine.graphs, batch)
    alone = [engine.start([samples]) for samples in batch]
    for _ in range(2):
        for rows, stages in zip(together.advance(), alone, strict=True):
            [lone] = stages.advance()
            np.testing.assert_allclose(rows, lone, atol=1e-4)


def test_what_is_behind_an_utterance_has_no_effect(pair):
    [graph, *_] = runtime.Engine(pair.exported, Description.read(pair.exported)).graphs
    samples = np.zeros((1, 32_000), np.float32)
    samples[0, :16_000] = voices(1.0)[0]
    noisy = samples.copy()
    noisy[0, 16_000:] = 100.0
    lengths = np.array([16_000])
    clean = graph.run(["log_probs"], {"samples": samples, "lengths": lengths})[0]
    other = graph.run(["log_probs"], {"samples": noisy, "lengths": lengths})[0]
    np.testing.assert_allclose(clean[:, :26], other[:, :26], atol=1e-4)


def test_adapters_are_merged(tokenizer, tmp_path):
    model = with_adapters(random_model(**SIZES), rank=2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape) * 0.1
    assert all(stage.difference < 1e-4 for stage in onnx.export(model, tokenizer, tmp_path))


def test_a_stage_that_says_something_else_is_refused(tokenizer, tmp_path, monkeypatch):
    def slightly_wrong(model):
        plain = exportable(model)
        plain.exits["2"].projection.bias.data[5] += 0.01
        return plain

    monkeypatch.setattr(onnx, "exportable", slightly_wrong)
    with pytest.raises(ExportError, match=r"stage 2: found log-probabilities that .* 0\.001"):
        onnx.export(random_model(**SIZES), tokenizer, tmp_path)
    assert (tmp_path / "stage-2.onnx").is_file()
    assert not folders.is_exported(tmp_path)
    with pytest.raises(ExportError, match=r"output: found stage-1.onnx in .*, wanted a new or an"):
        onnx.export(random_model(**SIZES), tokenizer, tmp_path)


def test_a_difference_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ExportError, match="stage 2: .* by nan"):
        onnx.check([0.0, float("nan")], tmp_path)


def test_the_description_has_all_that_decoding_needs(pair, tokenizer):
    description = Description.read(pair.exported)
    assert description.labels() == Tokens.of(tokenizer)
    assert description.thresholds(2) == {"confidence": [-1e9], "agreement": [0.0]}
    assert (description.exit_layers, description.samples_per_frame) == ([1, 2, 4], 640)
    assert len(description.stage_multiply_adds) == 3 and min(description.stage_multiply_adds) > 0


def test_a_damaged_folder_is_named(pair, tmp_path):
    content = json.loads((pair.exported / folders.DESCRIPTION).read_text())
    file = tmp_path / folders.DESCRIPTION
    for value, message in (
        ({**content, "format": 9}, "found format 9, wanted 1: export the model again"),
        ({"format": 1}, "found no complete description"),
        ([], "found format None, wanted 1"),
    ):
        file.write_text(json.dumps(value))
        with pytest.raises(ExportError, match=message):
            Description.read(tmp_path)
    file.write_text("{")
    with pytest.raises(ExportError, match="found no readable description"):
        Description.read(tmp_path)
    description = Description.read(pair.exported)
    with pytest.raises(ExportError, match=r"stage-1.onnx: found no readable graph"):
        runtime.Engine(tmp_path, description)
