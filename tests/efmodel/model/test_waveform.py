"""The waveform front end, against transformers' own."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

from efmodel.model.waveform import WaveformFeatureExtractor, convolve, normalise
from tests.conftest import small_config

KINDS = [("group", False), ("layer", False), ("layer", True)]


@pytest.mark.parametrize(("norm", "bias"), KINDS)
@pytest.mark.parametrize("samples", [16_000, 12_345, 400])
def test_features_and_gradients_are_transformers(norm, bias, samples):
    torch.manual_seed(0)
    config = small_config(frontend="waveform", feat_extract_norm=norm, conv_bias=bias)
    ours, theirs = WaveformFeatureExtractor(config), Wav2Vec2FeatureEncoder(config)
    for parameter in ours.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.load_state_dict(ours.state_dict())  # the same names
    waveform = torch.randn(2, samples)
    lengths = torch.tensor([samples, samples])
    found, frames = ours(waveform, lengths)
    expected = theirs(normalise(waveform, lengths)).transpose(1, 2)
    assert frames.tolist() == [expected.shape[1]] * 2
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    direction = torch.randn_like(expected)
    found.backward(direction)
    expected.backward(direction)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(
            p.grad, q.grad, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (5, 2), (2, 3), (4, 1)])
def test_matrix_products_convolve(kernel, stride):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(3, 4, kernel, stride)
    for time in range(kernel, kernel + 3 * stride):
        hidden = torch.randn(2, time, 3)
        expected = conv(hidden.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(convolve(hidden, conv), expected)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of values of the largest tensor that any operation returned."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize(("norm", "bias"), KINDS)
def test_inference_in_pieces_gives_the_same_in_less_memory(norm, bias):
    torch.manual_seed(0)
    config = small_config(frontend="waveform", feat_extract_norm=norm, conv_bias=bias)
    front = WaveformFeatureExtractor(config)
    size = 60 * 16_000 + 123
    samples = torch.randn(1, size) * torch.linspace(0.1, 2, size)
    lengths = torch.tensor([size - 123])
    with LargestTensor() as at_once:
        whole, frames = front(samples, lengths)  # gradients need all of it
    with torch.no_grad(), LargestTensor() as in_pieces:
        found, same_frames = front(samples, lengths)
    assert torch.equal(frames, same_frames)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    first_layer = (size // 5 - 1) * 24  # values of the first layer's output
    assert in_pieces.largest < first_layer / 2 < first_layer <= at_once.largest


def test_silence_and_loud_offsets_stay_finite():
    config = small_config(frontend="waveform", feat_extract_norm="group")
    front = WaveformFeatureExtractor(config)
    samples = torch.stack([torch.zeros(8_000), torch.full((8_000,), 0.9)])
    features, _ = front(samples, torch.tensor([8_000, 8_000]))
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(p.grad).all() for p in front.parameters())
