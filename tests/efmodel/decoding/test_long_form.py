"""Long recordings are run in windows."""

from difflib import SequenceMatcher

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efmodel.decoding import long_form
from efmodel.decoding.long_form import windows
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.words import Tokens
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.stages import Engine
from tests.conftest import small_config


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 3_000_000), st.integers(1_000, 1_000_000))
def test_windows_cover_a_recording_once(num_samples, chunk):
    recording = np.arange(num_samples, dtype=np.float32)
    length, margin = round(long_form.WINDOW * 16_000), round(long_form.OVERLAP * 8_000)
    pieces = [recording[at : at + chunk] for at in range(0, num_samples, chunk)]
    found = list(windows(pieces))
    kept = np.concatenate([window.samples[window.first : window.end] for window in found])
    assert np.array_equal(kept, recording)
    for number, window in enumerate(found):
        assert len(window.samples) <= length
        assert number == 0 or window.first >= margin  # what is kept was heard in context
        assert window is found[-1] or len(window.samples) - window.end >= margin


def test_every_frame_of_a_long_recording_comes_once(monkeypatch):
    monkeypatch.setattr(long_form, "WINDOW", 2.0)
    monkeypatch.setattr(long_form, "OVERLAP", 0.96)
    torch.manual_seed(0)
    for front_end in ("mel", "waveform"):
        engine = Engine(EarlyExitForCTC(small_config(frontend=front_end)).eval())
        per_frame = engine.samples_per_frame
        for num_samples in (800, 32_000, 32_001, 100_000, 111_111):
            recording = 0.1 * np.random.default_rng(0).standard_normal(num_samples)
            total = 0
            for window in windows([recording.astype(np.float32)]):
                [frames] = engine.start([window.samples]).advance()
                first, end = window.frames(per_frame)
                total += len(frames[first:end])
            assert total == engine.num_frames(num_samples)


def test_a_recording_in_windows_says_what_it_says_in_one_piece(monkeypatch, tokenizer):
    """With windows much longer than the encoder's reach, the seams change nothing."""
    torch.manual_seed(0)
    config = small_config(num_hidden_layers=1, exit_layers=[1], num_conv_pos_embeddings=2)
    model = EarlyExitForCTC(config).eval()
    for layer in model.encoder.layers:  # attention sees the whole window: leave it out
        torch.nn.init.zeros_(layer.attention.out_proj.weight)
    model.config.mel_normalisation = "speech"
    recogniser = Recogniser(Engine(model), Tokens.of(tokenizer))
    recording = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 20).astype(np.float32)
    whole = recogniser.transcribe(recording)
    monkeypatch.setattr(long_form, "WINDOW", 6.0)
    in_windows = recogniser.transcribe(recording)
    assert len(whole.exits) == 1 and len(in_windows.exits) == 6
    assert whole.seconds == in_windows.seconds == 20
    assert len(whole.text) > 50
    assert SequenceMatcher(None, whole.text, in_windows.text, autojunk=False).ratio() > 0.95
