"""Multiply-adds against a count by hand, layer by layer."""

import pytest
import torch

from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.model.compute import multiply_adds
from efmodel.model.mel import log_mel
from tests.conftest import small_config

SECONDS = 4.0
SAMPLES = int(SECONDS * 16_000)


def linear(frames: int, inputs: int, outputs: int) -> int:
    return frames * inputs * outputs


def convolution(frames: int, kernel: int, inputs: int, outputs: int, groups: int = 1) -> int:
    return frames * kernel * inputs * outputs // groups


def attention(frames: int, hidden: int) -> int:
    projections = 4 * linear(frames, hidden, hidden)
    return projections + 2 * frames * frames * hidden  # scores, and values by their weights


def mel_front_end(config) -> int:
    mel_frames = SAMPLES // 160 + 1
    halved = (mel_frames + 1) // 2
    quartered = (halved + 1) // 2
    return (
        linear(mel_frames, 257, 80)  # the filter bank
        + convolution(halved, 3, 80, config.hidden_size)
        + convolution(quartered, 3, config.hidden_size, config.hidden_size)
    )


def before_layers(config, frames: int) -> int:
    """The projection behind the front end, and the convolution for position."""
    size, kernel = config.hidden_size, config.num_conv_pos_embeddings
    # An even kernel gives one frame too many, which is dropped.
    position = convolution(frames + 1, kernel, size, size, config.num_conv_pos_embedding_groups)
    return linear(frames, config.conv_dim[-1], size) + position


def heads(config, frames: int, exits: int) -> int:
    return exits * linear(frames, config.hidden_size, config.vocab_size)


def test_mel_and_transformer_layers_by_hand():
    config = small_config()
    frames, size = config.num_frames(SAMPLES), config.hidden_size
    layer = attention(frames, size) + 2 * linear(frames, size, config.intermediate_size)
    expected = [
        mel_front_end(config)
        + before_layers(config, frames)
        + config.exit_layers[exit - 1] * layer
        + heads(config, frames, exit)
        for exit in (1, 2, 3)
    ]
    assert multiply_adds(config, SECONDS) == pytest.approx([e / SECONDS for e in expected])


def test_conformer_layers_by_hand():
    config = small_config(layer_type="conformer", conv_depthwise_kernel_size=7)
    frames, size = config.num_frames(SAMPLES), config.hidden_size
    layer = (
        attention(frames, size)
        + 4 * linear(frames, size, config.intermediate_size)
        + linear(frames, size, 2 * size)
        + convolution(frames, 7, size, size, groups=size)
        + linear(frames, size, size)
    )
    first, second, _ = multiply_adds(config, SECONDS)
    head = linear(frames, size, config.vocab_size)
    assert second - first == pytest.approx((layer + head) / SECONDS)
    before = mel_front_end(config) + linear(frames, size, size)
    assert first == pytest.approx((before + layer + head) / SECONDS)


def test_the_waveform_front_end_by_hand():
    config = small_config(frontend="waveform", feat_extract_norm="layer")
    expected, frames, inputs = 0, SAMPLES, 1
    for kernel, stride, outputs in zip(
        config.conv_kernel, config.conv_stride, config.conv_dim, strict=True
    ):
        frames = (frames - kernel) // stride + 1
        expected += convolution(frames, kernel, inputs, outputs)
        inputs = outputs
    size = config.hidden_size
    expected += before_layers(config, frames) + heads(config, frames, 1)
    expected += attention(frames, size) + 2 * linear(frames, size, config.intermediate_size)
    assert multiply_adds(config, SECONDS)[0] == pytest.approx(expected / SECONDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend": "waveform", "layer_type": "wavlm"},
        {"frontend": "waveform", "do_stable_layer_norm": False},
        {"layer_type": "wavlm"},
        {"lora_rank": 2},
    ],
)
def test_a_model_cut_at_an_exit_costs_what_the_whole_does_up_to_there(changes):
    config = small_config(**changes)
    whole = multiply_adds(config, SECONDS)
    assert whole == sorted(whole) and whole[0] > 0
    for exit in (1, 2):
        assert multiply_adds(config.cut(exit), SECONDS)[-1] == pytest.approx(whole[exit - 1])
    assert config.lora_rank == changes.get("lora_rank", 0)


def test_a_second_costs_more_in_a_longer_utterance():
    config = small_config()
    frames = [config.num_frames(int(s * 16_000)) for s in (2.0, 20.0)]
    short, long = (multiply_adds(config, seconds)[-1] for seconds in (2.0, 20.0))
    growth = 2 * config.hidden_size * config.num_hidden_layers
    quadratic = growth * (frames[1] ** 2 / 20 - frames[0] ** 2 / 2)
    assert long - short == pytest.approx(quadratic, rel=0.1)


def test_counting_leaves_real_models_alone():
    # The mel filter bank is kept for the process: a fake one would break what comes after.
    multiply_adds(small_config(num_mel_bins=41), 1.0)
    features, _ = log_mel(torch.randn(1, 1600), torch.tensor([1600]), 41, "speech")
    assert features.std() > 0.1
    out = EarlyExitForCTC(small_config()).eval()(torch.randn(1, 16_000))
    assert all(torch.isfinite(logits).all() for logits in out.logits)


def test_the_largest_preset_is_counted_without_its_weights():
    config = preset("wav2vec2-large")
    costs = multiply_adds(config)
    frames, size = config.num_frames(160_000), config.hidden_size
    layer = attention(frames, size) + 2 * linear(frames, size, config.intermediate_size)
    head = linear(frames, size, config.vocab_size)
    assert costs[1] - costs[0] == pytest.approx((4 * layer + head) / 10)
