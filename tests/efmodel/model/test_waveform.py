"""The waveform front end, against transformers' own."""

import pytest
import torch
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


def test_silence_and_loud_offsets_stay_finite():
    config = small_config(frontend="waveform", feat_extract_norm="group")
    front = WaveformFeatureExtractor(config)
    samples = torch.stack([torch.zeros(8_000), torch.full((8_000,), 0.9)])
    features, _ = front(samples, torch.tensor([8_000, 8_000]))
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(p.grad).all() for p in front.parameters())
