"""Our resampling is torchaudio's, without torch."""

import numpy as np
import pytest
import torch
import torchaudio

from efmodel.speech import resampling


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_the_samples_are_those_of_torchaudio(rate, monkeypatch):
    monkeypatch.setattr(resampling, "BLOCK", 50_000)  # several blocks
    samples = np.random.default_rng(0).standard_normal(rate + 7).astype(np.float32)
    wanted = torchaudio.functional.resample(torch.from_numpy(samples), rate, 16_000).numpy()
    found = resampling.resample(samples, rate)
    assert found.dtype == np.float32 and found.shape == wanted.shape
    # torchaudio computes its filter in float32.
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 441])
def test_a_few_samples(size):
    samples = np.ones(size, np.float32)
    wanted = torchaudio.functional.resample(torch.from_numpy(samples), 44_100, 16_000).numpy()
    np.testing.assert_allclose(resampling.resample(samples, 44_100), wanted, atol=1e-5)


def test_16_khz_is_left_as_it_is():
    samples = np.ones(9, np.float32)
    assert resampling.resample(samples, 16_000) is samples
