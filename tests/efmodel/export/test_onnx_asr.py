"""The library onnx-asr gives the words that we give for what is exported in its layout."""

from typing import get_args

import numpy as np
import onnx_asr
import onnxruntime
import pytest
import torch
from onnx_asr.asr import _AsrWithCtcDecoding
from onnx_asr.loader import AsrTypeNames, Manager
from onnx_asr.resolver import Resolver

from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.words import Tokens
from efmodel.export import int8, onnx
from efmodel.export import onnx_asr as layout
from efmodel.export.folder import ExportError
from efmodel.speech.vocabulary import CHARACTERS
from tests.efmodel.export.conftest import random_model
from tests.efmodel.export.test_onnx import voices

TYPE = "wav2vec2-ctc"
SIZES = {"vocab_size": len(CHARACTERS), "pad_token_id": 0}
MODELS = {
    "tiny": lambda: EarlyExitForCTC(preset("tiny", **SIZES)),
    "small": lambda: EarlyExitForCTC(preset("small", **SIZES)),
    "conformer": lambda: random_model(layer_type="conformer"),
    "waveform": lambda: random_model(frontend="waveform", do_stable_layer_norm=False),
}


class Wav2Vec2Ctc(_AsrWithCtcDecoding):
    """The type as onnx-asr has it since its pull request 135, for the release 0.12 before that."""

    _preprocessor_name = "identity"

    def __init__(self, files, *others):
        super().__init__(files, *others)
        self.session = onnxruntime.InferenceSession(files["model"])

    @staticmethod
    def _get_model_files(quantization=None):
        return {"model": f"model{f'?{quantization}' if quantization else ''}.onnx",
                "vocab": "vocab.txt"}  # fmt: skip

    @property
    def _subsampling_factor(self):
        return self.config["subsampling_factor"]

    def _encode(self, samples, lengths):
        inputs = {"input_values": samples, "input_lengths": lengths}
        [log_probs] = self.session.run(["logprobs"], inputs)
        frames = 1 + lengths // self._subsampling_factor
        return log_probs, np.clip(frames, 0, log_probs.shape[1])


def load(folder, quantization=None):
    if TYPE in get_args(AsrTypeNames):
        return onnx_asr.load_model(TYPE, folder, quantization=quantization)
    files = Resolver({TYPE: Wav2Vec2Ctc}, None, folder).resolve_model(quantization=quantization)
    manager = Manager()
    asr = Wav2Vec2Ctc(files, manager._create_preprocessor, manager.default_onnx_config)
    return manager._create_asr_adapter(asr)


def talkative(model: EarlyExitForCTC) -> EarlyExitForCTC:
    """Let a random model say letters, spaces, and no apostrophe: onnx-asr joins it to a word."""
    for head in model.exits.values():
        head.projection.weight.data *= 8
        head.projection.bias.data[CHARACTERS["'"]] = -50.0
        head.projection.bias.data[CHARACTERS["|"]] = 1.0
    return model.eval()


@pytest.mark.parametrize("kind", MODELS)
def test_onnx_asr_gives_our_words_alone_and_in_a_batch(kind, tokenizer, tmp_path):
    torch.manual_seed(1)
    model = talkative(MODELS[kind]())
    assert layout.export(model, tokenizer, tmp_path / "theirs") < 1e-3
    onnx.export(model, tokenizer, tmp_path / "ours")
    batch = voices(0.5, 3.0, 1.7, 0.1, 2.99)
    recogniser = Recogniser.from_pretrained(tmp_path / "ours")
    wanted = [recogniser.transcribe(samples).text for samples in batch]
    assert len(set("".join(wanted))) > 5 and any(" " in text for text in wanted)
    theirs = load(tmp_path / "theirs")
    assert [theirs.recognize(samples) for samples in batch] == wanted
    assert theirs.recognize(batch) == wanted


def test_with_eight_bits_the_words_are_those_of_our_eight_bits(tokenizer, tmp_path):
    model = talkative(random_model())
    layout.export(model, tokenizer, tmp_path / "theirs", int8=True)
    onnx.export(model, tokenizer, tmp_path / "ours")
    int8.quantise(tmp_path / "ours")
    recogniser, theirs = (
        Recogniser.from_pretrained(tmp_path / "ours"),
        load(tmp_path / "theirs", "int8"),
    )
    batch = voices(0.5, 3.0, 1.7)
    wanted = [recogniser.transcribe(samples).text for samples in batch]
    assert len(set("".join(wanted))) > 5
    assert [theirs.recognize(samples) for samples in batch] == wanted


def test_frames_behind_an_utterance_are_blank(tokenizer, tmp_path):
    model = talkative(random_model(frontend="waveform"))
    layout.export(model, tokenizer, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / layout.MODEL)
    inputs = {"input_values": np.ones((1, 16_000), "f4"), "input_lengths": np.array([8_000])}
    [[log_probs]] = session.run(None, inputs)
    frames = model.config.num_frames(8_000)
    assert set(log_probs[frames:].argmax(-1)) == {0} != set(log_probs[:frames].argmax(-1))


def test_a_graph_that_says_something_else_is_refused(tokenizer, tmp_path, monkeypatch):
    model = random_model(exit_layers=[4])
    other = random_model(exit_layers=[4])
    other.exits["1"].projection.bias.data[5] += 0.01
    monkeypatch.setattr(layout, "Engine", lambda _: onnx.TorchEngine(other))
    with pytest.raises(ExportError, match=r"model.onnx: found log-probabilities that .* 0\.001"):
        layout.export(model, tokenizer, tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_tokens_are_spelt_as_the_library_spells_them():
    tokens = Tokens(("<s>", "▁he", "|", "<pad>", "a"), blank=3, space="▁", silent=frozenset({0}))
    assert layout.vocabulary(tokens) == [" 0", "▁he 1", "| 2", "<blk> 3", "a 4"]
    with pytest.raises(ExportError, match="vocabulary: found the token 'a b', wanted no white"):
        layout.vocabulary(Tokens(("<pad>", "a b"), 0, "|", frozenset()))
