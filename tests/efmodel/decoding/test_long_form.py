"""Long recordings are run in windows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding import long_form
from efmodel.decoding.long_form import joined_logits, windows
from efmodel.model.early_exit import EarlyExitForCTC
from tests.conftest import small_config


@settings(deadline=None)
@given(st.integers(0, 5_000_000))
def test_windows_cover_a_recording_once(num_samples):
    length, margin = round(long_form.WINDOW * 16_000), round(long_form.OVERLAP * 8_000)
    at = 0
    for start, kept_from, kept_to in windows(num_samples):
        assert kept_from == at and start <= kept_from and kept_to <= start + length
        assert start == 0 or kept_from - start >= margin  # what is kept was heard in context
        assert kept_to == num_samples or start + length - kept_to >= margin
        at = kept_to
    assert at == num_samples


@torch.no_grad()
def test_every_frame_of_a_long_recording_comes_once(monkeypatch):
    monkeypatch.setattr(long_form, "WINDOW", 2.0)
    monkeypatch.setattr(long_form, "OVERLAP", 0.96)
    torch.manual_seed(0)
    for front_end in ("mel", "waveform"):
        model = EarlyExitForCTC(small_config(frontend=front_end)).eval()
        for num_samples in (800, 32_000, 32_001, 100_000, 111_111):
            logits = joined_logits(model, 0.1 * torch.randn(num_samples))
            frames = model.config.num_frames(num_samples)
            assert [len(each) for each in logits] == [frames] * model.config.num_exits


@torch.no_grad()
def test_a_short_recording_is_run_whole():
    model = EarlyExitForCTC(small_config()).eval()
    samples = 0.1 * torch.randn(16_000)
    for ours, whole in zip(joined_logits(model, samples), model(samples[None]).logits, strict=True):
        assert torch.equal(ours, whole[0])
