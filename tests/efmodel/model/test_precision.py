"""Half types and checkpointed layers, on every kind of model."""

import copy

import pytest
import torch

from efmodel import EarlyExitForCTC
from efmodel.config import preset
from efmodel.model.encoder import position_embedding
from efmodel.model.precision import autocast
from tests.conftest import small_config
from tests.efmodel.model.test_early_exit import KINDS

LAYERS = {
    **KINDS,
    "mel, wavlm": {"layer_type": "wavlm"},
    "waveform, wavlm": {"frontend": "waveform", "layer_type": "wavlm"},
    "waveform, stacked positions": {
        "frontend": "waveform",
        "conv_pos_kernel_size": 5,
        "num_conv_pos_embeddings": 3,
    },
}
LABELS = torch.tensor([[3, 4, 5], [7, 8, 9]])


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def model(request) -> EarlyExitForCTC:
    torch.manual_seed(1)
    return EarlyExitForCTC(small_config(**request.param))


def gradients(model: EarlyExitForCTC, samples: torch.Tensor, precision: str = "float32"):
    torch.manual_seed(2)  # dropout and masks
    model.zero_grad()
    with autocast(model.device, precision):
        output = model(samples, labels=LABELS)
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters()}


def test_bfloat16_is_close_and_its_logits_and_losses_are_float32(model):
    samples = torch.randn(2, 16_000)
    exact, _ = gradients(model.eval(), samples)
    rough, grads = gradients(model.eval(), samples, "bfloat16")
    assert all(torch.isfinite(grad).all() for grad in grads.values())
    assert rough.losses.dtype == torch.float32
    torch.testing.assert_close(rough.losses, exact.losses, rtol=0.02, atol=0.0)
    assert not torch.equal(rough.losses, exact.losses)
    for ours, theirs in zip(rough.logits, exact.logits, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).abs().mean() < 0.03


@torch.no_grad()
def test_padding_never_changes_a_result_in_bfloat16(model):
    model.eval()
    samples = torch.randn(2, 16_000)
    mask = torch.ones(2, 16_000, dtype=torch.long)
    mask[1, 9_000:] = 0
    with autocast(model.device, "bfloat16"):
        batch, alone = model(samples, mask), model(samples[1:, :9_000])
    for ours, theirs in zip(batch.logits, alone.logits, strict=True):
        assert (ours[1, : alone.lengths[0]] - theirs[0]).abs().mean() < 0.01


def test_positions_and_their_gradients_are_right_on_cpus_with_bfloat16_matrices():
    torch.manual_seed(0)
    positions = position_embedding(preset("small"))
    exact_input = torch.randn(2, 50, 192, requires_grad=True)
    rough_input = exact_input.detach().clone().requires_grad_()
    exact = positions(exact_input)
    with autocast(torch.device("cpu"), "bfloat16"):
        rough = positions(rough_input)
    towards = torch.randn_like(exact)
    for result in (exact, rough):
        (result * towards).sum().backward()
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(rough_input.grad, exact_input.grad, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS.keys())
@torch.no_grad()
def test_a_model_in_a_half_type_is_close_and_cut_it_keeps_the_type(kind, dtype):
    torch.manual_seed(1)
    model = EarlyExitForCTC(small_config(**kind)).eval()
    samples, mask = torch.randn(2, 16_000), torch.ones(2, 16_000)
    mask[1, 9_000:] = 0
    exact = model(samples, mask, labels=LABELS)
    half = copy.deepcopy(model).to(dtype)
    for waveform, ones in ((samples, mask), (samples.to(dtype), mask.to(dtype))):
        rough = half(waveform, ones, labels=LABELS)
        assert torch.equal(rough.lengths, exact.lengths)
        torch.testing.assert_close(rough.losses, exact.losses, rtol=0.02, atol=0.0)
        for ours, theirs in zip(rough.logits, exact.logits, strict=True):
            assert ours.dtype == torch.float32
            assert (ours - theirs)[1, : exact.lengths[1]].abs().max() < 0.03
    small = half.cut(1)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert torch.equal(small(samples, mask).logits[0], half(samples, mask).logits[0])


def test_a_model_is_read_in_a_half_type(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = EarlyExitForCTC.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(torch.randn(2, 16_000), labels=LABELS).loss.isfinite()


def test_gradient_checkpointing_gives_the_same_gradients(model):
    samples = torch.randn(2, 16_000)
    _, kept = gradients(model.train(), samples)  # with dropout: the same is drawn again
    calls = []
    model.gradient_checkpointing_enable()
    model.encoder.layers[0].attention.register_forward_hook(lambda *_: calls.append(1))
    _, again = gradients(model, samples)
    assert len(calls) == 2  # forward, and again in the backward pass
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients_and_names():
    torch.manual_seed(1)
    model = EarlyExitForCTC(small_config()).eval()
    names = list(model.state_dict())
    samples = torch.randn(2, 16_000)
    _, plain = gradients(model, samples)
    for layer in model.encoder.layers:
        layer.compile(dynamic=True)
    _, compiled = gradients(model, samples)
    assert list(model.state_dict()) == names
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-4, rtol=0)
