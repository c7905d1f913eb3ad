"""The model: cutting, padding, exits, saving."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForCTC

from efmodel import EarlyExitForCTC
from efmodel.config import IGNORED, PRESETS, preset
from efmodel.model import mel
from efmodel.model.dropout import Dropout
from efmodel.model.mel import log_mel, mask_bands_and_frames
from tests.conftest import small_config

KINDS = {
    "mel": {},
    "mel, post-norm": {"do_stable_layer_norm": False},
    "waveform, group norm": {"frontend": "waveform", "feat_extract_norm": "group"},
    "waveform, layer norm": {"frontend": "waveform", "feat_extract_norm": "layer"},
    "waveform, group norm, post-norm": {"frontend": "waveform", "do_stable_layer_norm": False},
    "mel, conformer": {"layer_type": "conformer"},
    "waveform, conformer": {"frontend": "waveform", "layer_type": "conformer"},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def any_model(request) -> EarlyExitForCTC:
    torch.manual_seed(1)
    return EarlyExitForCTC(small_config(**request.param)).eval()


def padded_batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise behind each utterance's end: what lies there must not matter."""
    samples = torch.randn(len(lengths), max(lengths))
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return samples, mask.long()


@torch.no_grad()
def test_cut_model_gives_the_full_models_logits(any_model):
    samples, mask = padded_batch([16000, 9000])
    whole = any_model(samples, mask).logits
    for exit in (1, 2, 3):
        cut = any_model.cut(exit)(samples, mask).logits
        assert len(cut) == exit
        for ours, theirs in zip(cut, whole, strict=False):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_cut_model_is_smaller_and_holds_nothing_deeper(any_model):
    owners = any_model.owner_exits()
    sizes = []
    for exit in (1, 2, 3):
        cut = any_model.cut(exit)
        assert set(cut.state_dict()) == {name for name, owner in owners.items() if owner <= exit}
        assert len(cut.encoder.layers) == [1, 2, 4][exit - 1]
        sizes.append(sum(p.numel() for p in cut.parameters()))
    assert sizes[0] < sizes[1] < sizes[2] == sum(p.numel() for p in any_model.parameters())


def test_cutting_copies(model):
    cut = model.cut(1)
    before = model.exits["1"].projection.weight.clone()
    with torch.no_grad():
        cut.exits["1"].projection.weight.add_(1.0)
    assert torch.equal(model.exits["1"].projection.weight, before)


def test_there_is_no_exit_9(model):
    with pytest.raises(ValueError, match="exit: found 9, wanted 1 to 3"):
        model.cut(9)


def test_owner_exits_names_every_tensor_and_every_exit(any_model):
    owners = any_model.owner_exits()
    assert owners.keys() == any_model.state_dict().keys()
    assert set(owners.values()) == {0, 1, 2, 3}
    assert owners["encoder.layers.0.final_layer_norm.weight"] == 1
    assert owners["encoder.layers.2.final_layer_norm.weight"] == 3
    assert owners["exits.2.projection.bias"] == 2
    assert owners["feature_projection.projection.weight"] == 0


@torch.no_grad()
def test_padding_never_changes_a_result(any_model):
    lengths = [16000, 12345, 4321]
    samples, mask = padded_batch(lengths)
    batch = any_model(samples, mask)
    for row, length in enumerate(lengths):
        alone = any_model(samples[row : row + 1, :length])
        assert alone.lengths[0] == batch.lengths[row]
        for ours, theirs in zip(batch.logits, alone.logits, strict=True):
            own_frames = ours[row, : batch.lengths[row]]
            torch.testing.assert_close(own_frames, theirs[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_loss_of_a_padded_batch_is_the_mean_of_its_utterances(any_model):
    lengths, texts = [16000, 9000], [[3, 4, 5, 5], [7, 8]]
    samples, mask = padded_batch(lengths)
    labels = torch.tensor([texts[0], texts[1] + [IGNORED] * 2])
    batch = any_model(samples, mask, labels=labels)
    alone = [
        any_model(samples[i : i + 1, : lengths[i]], labels=torch.tensor([texts[i]])).losses
        for i in range(2)
    ]
    torch.testing.assert_close(batch.losses, torch.stack(alone).mean(0), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_frames_are_what_the_config_says(any_model):
    assert any_model.config.num_frames(300) == (1 if any_model.config.frontend == "mel" else 0)
    for length in (400, 401, 5000, 16000):
        frames = any_model(torch.randn(1, length)).logits[0].shape[1]
        assert frames == any_model.config.num_frames(length)


def test_a_saved_model_loads_by_name_and_by_auto_class(any_model, tmp_path):
    any_model.save_pretrained(tmp_path)
    for kind in (EarlyExitForCTC, AutoModelForCTC):
        loaded = kind.from_pretrained(tmp_path)
        assert isinstance(loaded, EarlyExitForCTC)
        for name, weight in any_model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], weight), name


def test_masks_fall_on_training_only_and_differ_between_utterances():
    torch.manual_seed(0)
    model = EarlyExitForCTC(small_config(mask_mel_bins=30, mask_mel_frames=20))
    samples, lengths = torch.randn(2, 16000), torch.tensor([16000, 16000])
    plain, _ = log_mel(samples, lengths, 80, "speech")
    masked = mask_bands_and_frames(plain, model.config)
    hidden = (masked == 0) & (plain != 0)
    assert 0 < hidden.float().mean() < 0.9 and not torch.equal(hidden[0], hidden[1])
    assert torch.equal(masked[~hidden], plain[~hidden])
    extract = model.feature_extractor.eval()
    assert torch.equal(extract(samples, lengths)[0], extract(samples, lengths)[0])


def test_hidden_states_are_what_the_heads_see(model):
    output = model(torch.randn(1, 8000), output_hidden_states=True)
    for head, hidden, logits in zip(
        model.exits.values(), output.hidden_states, output.logits, strict=True
    ):
        torch.testing.assert_close(head(hidden), logits)


def test_a_tuple_in_place_of_the_output_holds_its_values(model):
    samples, labels = torch.randn(1, 8000), torch.tensor([[3, 4]])
    output = model(samples, labels=labels, output_hidden_states=True)
    values = model(samples, labels=labels, output_hidden_states=True, return_dict=False)
    assert isinstance(values, tuple) and len(values) == 5
    loss, logits, lengths, losses, states = values
    assert torch.equal(loss, output.loss) and torch.equal(losses, output.losses)
    assert torch.equal(lengths, output.lengths)
    assert all(map(torch.equal, [*logits, *states], [*output.logits, *output.hidden_states]))


@pytest.mark.parametrize("layer_type", ["transformer", "conformer", "wavlm"])
@torch.no_grad()
def test_attention_weights_are_shares_of_the_utterances_own_frames(layer_type):
    model = EarlyExitForCTC(small_config(layer_type=layer_type)).eval()
    if layer_type != "wavlm":
        with pytest.raises(ValueError, match="output_attentions: found .* sdpa, wanted eager"):
            model(torch.randn(1, 8000), output_attentions=True)
        model.set_attn_implementation("eager")
    samples, mask = padded_batch([16000, 9000])
    output = model(samples, mask, output_attentions=True)
    frames = output.logits[0].shape[1]
    assert [tuple(w.shape) for w in output.attentions] == [(2, 4, frames, frames)] * 4
    for weights in output.attentions:
        shares = weights[1, :, : output.lengths[1]]
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))
        assert shares[:, :, output.lengths[1] :].abs().max() < 1e-6


def test_a_cut_model_keeps_its_attention_kernel(model):
    model.set_attn_implementation("eager")
    assert model.cut(1).config._attn_implementation == "eager"
    assert model.cut(1)(torch.randn(1, 8000), output_attentions=True).attentions[0] is not None


@pytest.mark.parametrize("rows", [[[0, 1, 1, 1]], [[1, 1, 1, 1], [1, 0, 1, 1]]])
def test_padding_before_or_between_samples_is_refused(model, rows):
    mask = torch.tensor(rows).repeat_interleave(2000, dim=1)
    for kind in (torch.long, torch.bool, torch.float32):
        with pytest.raises(ValueError, match="attention_mask: found samples after padding"):
            model(torch.randn(mask.shape), mask.to(kind))


class DeepestExit(nn.Module):
    """A model with one tensor as its output: torch.jit traces no dictionary that holds None."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, samples, mask):
        return self.model(samples, mask).logits[-1]


@pytest.mark.parametrize("frontend", ["mel", "waveform"])
@torch.no_grad()
def test_a_model_that_never_ran_can_be_exported_and_traced(frontend):
    mel.constants.cache_clear()  # another test's model may have run
    model = EarlyExitForCTC(small_config(frontend=frontend)).eval()
    samples, mask = padded_batch([16000, 9000])
    exported = torch.export.export(model, (samples, mask)).module()(samples, mask).logits[-1]
    traced = torch.jit.trace(DeepestExit(model), (samples, mask), check_trace=False)(samples, mask)
    deepest = model(samples, mask).logits[-1]
    torch.testing.assert_close(exported, deepest, atol=1e-5, rtol=0)
    torch.testing.assert_close(traced, deepest, atol=1e-5, rtol=0)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.programs
def test_importing_efmodel_registers_the_model_with_transformers(model, tmp_path):
    model.save_pretrained(tmp_path)
    use = f"print(type(AutoModelForCTC.from_pretrained({str(tmp_path)!r})).__name__)"
    script = f"from transformers import AutoModelForCTC; import efmodel; {use}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "EarlyExitForCTC\n", done.stderr


def test_a_gradient_reaches_every_parameter_from_the_deepest_exits_loss_up(any_model):
    any_model(torch.randn(2, 16000), labels=torch.tensor([[3, 4], [5, 6]])).loss.backward()
    assert not [name for name, p in any_model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("exit_layers", [[], [2, 1, 4], [0, 4], [2, 3], [2, 6]])
def test_impossible_exits_are_refused(exit_layers):
    with pytest.raises(ValueError, match="exit_layers"):
        small_config(exit_layers=exit_layers)


def test_tiny_is_about_two_million_parameters():
    model = EarlyExitForCTC(preset("tiny", vocab_size=30))
    assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 2.5e6
    assert model.config.exit_layers == [2, 4, 6]


def test_an_unknown_preset_names_the_known():
    with pytest.raises(ValueError, match=f"found 'huge', wanted one of .*{sorted(PRESETS)[0]}"):
        preset("huge")


@pytest.mark.parametrize("name", ["tiny", "wav2vec2-base"])
def test_transformers_own_layers_draw_their_dropout_quickly_too(name):
    config = preset(name, num_hidden_layers=2, exit_layers=[1, 2])
    dropouts = [m for m in EarlyExitForCTC(config).modules() if isinstance(m, nn.Dropout)]
    assert len(dropouts) >= 8  # three in a layer, one in a head
    assert {type(dropout) for dropout in dropouts} == {Dropout}
