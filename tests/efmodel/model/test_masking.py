"""Masks behind the front end."""

import numpy as np
import torch
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from efmodel import EarlyExitForCTC
from efmodel.model.masking import choose_masks, mask_features, spans
from efmodel.settings import Settings
from tests.conftest import small_config


def test_as_many_frames_are_masked_as_transformers_masks():
    torch.manual_seed(0)
    np.random.seed(0)
    lengths = torch.tensor([300, 200, 120])
    own = (torch.arange(300)[None] < lengths[:, None]).long()
    ours = [spans(lengths, 300, share=0.3, span=10, least=2) for _ in range(1000)]
    theirs = [torch.tensor(_compute_mask_indices((3, 300), 0.3, 10, own, 2)) for _ in range(1000)]
    share, expected = (torch.stack(m).float().mean(0).sum(1) / lengths for m in (ours, theirs))
    torch.testing.assert_close(share, expected, atol=0.006, rtol=0)


def test_masks_are_whole_spans_within_each_utterances_own_length():
    torch.manual_seed(0)
    lengths = torch.tensor([50, 23, 10, 9, 0])
    for _ in range(50):
        masked = spans(lengths, 60, share=0.5, span=10, least=2)
        assert not (masked & (torch.arange(60)[None] >= lengths[:, None])).any()
        assert masked[2].sum() == 10  # just one place to start
        assert not masked[3:].any()  # too short for a span
        edges = torch.nn.functional.pad(masked.long(), (1, 1)).diff(dim=1)
        for row in edges:
            runs = (row == -1).nonzero() - (row == 1).nonzero()
            assert (runs >= 10).all()


def test_frames_become_the_trained_vector_and_channels_zero_in_training_only():
    torch.manual_seed(0)
    config = small_config(mask_time_prob=0.3, mask_feature_prob=0.3, mask_feature_length=4)
    model = EarlyExitForCTC(config)
    hidden, lengths = torch.randn(2, 40, 32), torch.tensor([40, 25])
    masked = mask_features(hidden, lengths, config, model.masked_spec_embed)
    gone = (masked == 0).all(1)  # channels
    assert 0 < gone.sum() < 32
    expected = model.masked_spec_embed.detach()[None, None] * ~gone[:, None]
    at = (masked == expected).all(2)
    assert 0 < at[0].sum() < 40 and not at[1, 25:].any()
    untouched = ~(at[:, :, None] | gone[:, None])
    assert torch.equal(masked[untouched], hidden[untouched])
    samples = torch.randn(1, 16_000)
    labels = torch.tensor([[3, 4]])
    assert torch.equal(model.eval()(samples).logits[0], model(samples).logits[0])
    model.train()(torch.randn(2, 16_000), labels=labels.repeat(2, 1)).loss.backward()
    assert model.masked_spec_embed.grad.abs().sum() > 0


def test_the_models_config_alone_decides_on_the_vector():
    model = EarlyExitForCTC(small_config())
    assert "masked_spec_embed" not in model.state_dict()
    choose_masks(model.config, Settings(masks="time:0.5"))
    hidden = mask_features(torch.ones(1, 40, 32), torch.tensor([40]), model.config, None)
    assert set(hidden.unique().tolist()) == {0.0, 1.0}  # no vector of its own: zero
    with_vector = EarlyExitForCTC(small_config(mask_time_prob=0.05))
    choose_masks(with_vector.config, Settings(masks="time:0"))
    assert with_vector.cut(1).config.mask_time_prob == 0
    assert with_vector.owner_exits()["masked_spec_embed"] == 0


def test_keys_set_masks_and_minus_one_leaves_the_models_own():
    config = small_config(mask_mel_bins=20, mask_mel_frames=5, mask_feature_prob=0.1)
    choose_masks(config, Settings())
    assert (config.mask_mel_bins, config.mask_mel_frames) == (20, 5)
    assert (config.mask_time_prob, config.mask_feature_prob) == (0.0, 0.1)
    choose_masks(config, Settings(masks="bands:0,frames:9,channels:0"))
    assert (config.mask_mel_bins, config.mask_mel_frames) == (0, 9)
    assert config.mask_feature_prob == 0
