"""The mel front end's features."""

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.config import EarlyExitConfig, preset
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.mel import CENTRE, QUIETEST, SCALE, log_mel
from tests.conftest import small_config


def speech(seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Return noise that is loud and quiet in turn, as syllables are."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(round(16_000 * seconds), generator=generator)
    time = torch.arange(len(samples)) / 16_000
    return 0.1 * samples * (0.05 + torch.sin(2 * torch.pi * 4 * time).clamp(min=0))


def features(samples: torch.Tensor, normalisation: str = "speech") -> torch.Tensor:
    """Return ``[mel frames, 80]``."""
    return log_mel(samples[None], torch.tensor([len(samples)]), 80, normalisation)[0][0]


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_silence_around_speech_does_not_change_its_features(before, after):
    alone = features(speech())
    ends = torch.zeros(160 * before), torch.zeros(160 * after)
    longer = features(torch.cat([ends[0], speech(), ends[1]]))
    inside = slice(before + 2, before + len(alone) - 2)  # frames that see no edge
    torch.testing.assert_close(longer[inside], alone[2:-2], atol=0.02, rtol=0)
    quiet = torch.cat([longer[: max(0, before - 2)], longer[before + len(alone) + 2 :]])
    assert (quiet == (QUIETEST - CENTRE) / SCALE).all()


@pytest.mark.parametrize("pause", [0.5, 2.0, 10.0])
def test_a_quiet_room_around_speech_hardly_changes_its_features(pause):
    alone, room = features(speech()), 0.001 * torch.randn(2, round(16_000 * pause))
    longer = features(torch.cat([room[0], speech(), room[1]]))
    before = round(100 * pause)
    moved = (longer[before + 2 : before + len(alone) - 2] - alone[2:-2]).abs()
    assert moved.mean() < 0.15
    # By the whole utterance it is another sound.
    by_all = features(torch.cat([room[0], speech(), room[1]]), "utterance")
    moved = by_all[before + 2 : before + len(alone) - 2] - features(speech(), "utterance")[2:-2]
    assert moved.abs().mean() > 0.3


@settings(deadline=None)
@given(st.floats(0.05, 10.0))
def test_loudness_does_not_change_features(gain):
    torch.testing.assert_close(features(gain * speech()), features(speech()), atol=0.1, rtol=0)


def test_the_level_is_the_mean_log_energy_weighted_by_energy():
    samples = speech().numpy().astype(np.float64)
    padded, window = np.pad(samples, 256), np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [padded[160 * i : 160 * i + 512] * window for i in range(len(samples) // 160 + 1)]
    filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 80, 16_000).double().numpy()
    mel = np.abs(np.fft.rfft(frames)) ** 2 @ filters
    power = mel.mean(1) + 1e-8
    level = (power * np.log(power)).sum() / power.sum()
    wanted = (np.maximum(np.log(mel + 1e-8) - level, -10) + 4.5) / 2.5
    np.testing.assert_allclose(features(speech()).numpy(), wanted, atol=2e-3)


def test_silence_and_one_short_word_have_finite_features():
    for samples in (torch.zeros(16_000), torch.zeros(1), speech(0.05), 1e-6 * speech()):
        assert torch.isfinite(features(samples)).all()
    assert features(torch.zeros(16_000)).abs().max() < 4


def test_a_model_saved_before_this_normalisation_keeps_its_own(tmp_path):
    new = preset("tiny", vocab_size=32)
    assert new.mel_normalisation == "speech"
    model = EarlyExitForCTC(small_config())
    model.save_pretrained(tmp_path)
    assert EarlyExitForCTC.from_pretrained(tmp_path).config.mel_normalisation == "speech"
    stored = tmp_path / "config.json"
    lines = stored.read_text().splitlines()
    old = [line for line in lines if "mel_normalisation" not in line]
    assert len(old) == len(lines) - 1
    stored.write_text("\n".join(old))
    loaded = EarlyExitForCTC.from_pretrained(tmp_path)
    assert loaded.config.mel_normalisation == "utterance"
    loaded.save_pretrained(tmp_path / "again")
    again = EarlyExitConfig.from_pretrained(tmp_path / "again").cut(1)
    assert again.mel_normalisation == "utterance"
    samples = speech()
    with torch.no_grad():
        theirs, ours = loaded.eval()(samples[None]), model.eval()(samples[None])
    assert (theirs.logits[0] - ours.logits[0]).abs().max() > 0.01


def test_features_by_utterance_have_mean_zero_and_deviation_one():
    by_band = features(speech(), "utterance")
    assert by_band.mean(0).abs().max() < 1e-3
    assert by_band.std(0).min() > 0.8 and by_band.std(0).max() < 1.01
