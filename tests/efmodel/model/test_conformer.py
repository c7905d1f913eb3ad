"""Conformer layers against independent computations; what all kinds of layer share is tested with
the model (cutting, padding, saving)."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.model.conformer import ConformerLayer, ConvolutionModule, SinusoidalPosition
from efmodel.model.dropout import Dropout
from tests.conftest import small_config


@pytest.fixture
def config():
    torch.manual_seed(0)
    return small_config(layer_type="conformer", conv_depthwise_kernel_size=5)


def scrambled(module: nn.Module) -> nn.Module:
    """No weight at its initial value: a norm's 1 or a bias's 0 would hide that it is not used."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def convolution(module: ConvolutionModule, hidden: torch.Tensor) -> torch.Tensor:
    """The convolution module on one utterance, as the paper draws it: channels before frames."""
    state = {name: value.detach() for name, value in module.state_dict().items()}
    channels = hidden.shape[-1]
    weight, bias = state["layer_norm.weight"], state["layer_norm.bias"]
    x = functional.layer_norm(hidden, (channels,), weight, bias).mT[None]  # (1, C, T)
    x = functional.conv1d(x, state["gate.weight"][:, :, None], state["gate.bias"])
    x = x[:, :channels] * x[:, channels:].sigmoid()
    kernel = state["depthwise.weight"]
    x = functional.pad(x, (kernel.shape[-1] // 2,) * 2)
    x = functional.conv1d(x, kernel, state["depthwise.bias"], groups=channels)
    # One group a frame: frames take the place of the batch.
    weight, bias = state["channel_norm.weight"], state["channel_norm.bias"]
    x = functional.group_norm(x[0].T, 1, weight, bias).T[None]
    x = x * x.sigmoid()
    x = functional.conv1d(x, state["mix.weight"][:, :, None], state["mix.bias"])
    return x[0].T


def attention(module: nn.Module, hidden: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention on one utterance, head by head."""
    parts = []
    q, k, v = (part(hidden) for part in (module.q_proj, module.k_proj, module.v_proj))
    for one in range(heads):
        own = slice(one * q.shape[-1] // heads, (one + 1) * q.shape[-1] // heads)
        scores = (q[:, own] @ k[:, own].T / math.sqrt(own.stop - own.start)).softmax(-1)
        parts.append(scores @ v[:, own])
    return module.out_proj(torch.cat(parts, -1))


def feed_forward(module: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    wide = module.intermediate_dense(module.layer_norm(hidden))
    return module.output_dense(wide * wide.sigmoid())


@torch.no_grad()
def test_the_convolution_module_is_the_papers_with_a_norm_per_frame(config):
    module = scrambled(ConvolutionModule(config))
    hidden, lengths = torch.randn(2, 9, 32), [9, 6]
    mask = torch.arange(9)[None, :, None] < torch.tensor(lengths)[:, None, None]
    batch = module(hidden, mask)
    for row, length in enumerate(lengths):
        alone = convolution(module, hidden[row, :length])
        torch.testing.assert_close(batch[row, :length], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_layer_is_half_a_feed_forward_attention_convolution_half_a_feed_forward_norm(config):
    layer = scrambled(ConformerLayer(config))
    hidden = torch.randn(1, 7, 32)
    x = hidden[0] + feed_forward(layer.ffn1, hidden[0]) / 2
    x = x + attention(layer.attention, layer.attention_layer_norm(x), heads=4)
    x = x + convolution(layer.conv_module, x)
    x = layer.final_layer_norm(x + feed_forward(layer.ffn2, x) / 2)
    mask = torch.ones(1, 7, 1, dtype=torch.bool)
    torch.testing.assert_close(layer(hidden, None, mask)[0], x, atol=1e-4, rtol=1e-4)


def test_padding_and_company_change_no_gradient_while_training(config):
    """With batch norm, or with statistics of any kind over frames, they would."""
    for kind in ("activation", "attention", "hidden", "feat_proj", "final"):
        setattr(config, f"{kind}_dropout", 0.0)
    model = EarlyExitForCTC(config).train()
    assert not list(model.buffers())
    samples, lengths, labels = torch.randn(2, 16000), [16000, 7000], torch.tensor([[3, 4], [5, 6]])
    mask = (torch.arange(16000)[None] < torch.tensor(lengths)[:, None]).long()

    def gradients(*batches):
        model.zero_grad()
        for batch in batches:
            (model(**batch).loss / len(batches)).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    together = gradients({"input_values": samples, "attention_mask": mask, "labels": labels})
    alone = gradients(
        *(
            {"input_values": samples[i : i + 1, :length], "labels": labels[i : i + 1]}
            for i, length in enumerate(lengths)
        )
    )
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name], atol=1e-4, rtol=1e-3, msg=name)


def test_positions_are_sines_and_cosines_of_their_wavelengths():
    found = SinusoidalPosition()(torch.zeros(3, 40, 8))
    for frame in (0, 1, 39):
        for pair in range(4):
            angle = frame / 10_000 ** (2 * pair / 8)
            assert found[frame, pair] == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[frame, 4 + pair] == pytest.approx(math.cos(angle), abs=1e-5)


@torch.no_grad()
def test_the_order_of_the_frames_matters(config):
    """Attention alone is blind to it, and a convolution sees no further than its kernel."""
    encoder = EarlyExitForCTC(config).eval().encoder
    hidden, lengths = torch.randn(1, 30, 32), torch.tensor([30])
    moved = torch.cat([hidden[:, :10].flip(1), hidden[:, 10:]], 1)
    deepest, other = encoder(hidden, lengths)[-1], encoder(moved, lengths)[-1]
    assert (deepest[:, 25:] - other[:, 25:]).abs().max() > 1e-4


def test_a_heads_own_norm_is_for_layers_that_end_in_none(config):
    assert isinstance(EarlyExitForCTC(config).exits["1"].norm, nn.Identity)
    assert isinstance(EarlyExitForCTC(small_config()).exits["1"].norm, nn.LayerNorm)


def test_an_even_kernel_has_no_middle():
    with pytest.raises(ValueError, match="conv_depthwise_kernel_size: found 4, wanted an odd"):
        small_config(conv_depthwise_kernel_size=4)


def test_the_papers_preset_has_the_papers_size():
    config = preset("paper")
    model = EarlyExitForCTC(config)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters")
    assert parameters == pytest.approx(31e6, rel=0.05)
    assert config.exit_layers == [2, 4, 6, 8, 10, 12] and config.vocab_size == 256
    assert config.num_frames(16_000) == 26  # 40 ms each


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    dropout, hidden = Dropout(share), torch.ones(1001, 1003, requires_grad=True)
    output = dropout(hidden)
    output.sum().backward()
    dropped = output.detach()
    assert (dropped == 0).float().mean() == pytest.approx(share, abs=0.002)
    assert dropped.mean() == pytest.approx(1, abs=0.002)
    assert torch.equal(hidden.grad, dropped)  # 0 where dropped, the scale elsewhere
    neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)  # also within one 64-bit number
    assert neighbours.float().mean() == pytest.approx(share**2, abs=0.002)
    assert not torch.equal(dropout(hidden), output)
    assert torch.equal(dropout.eval()(hidden), hidden)
