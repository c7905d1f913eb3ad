"""Getting a model: saved by this version or by 0.1.0, by a preset's name, from a checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from efmodel.config import PRESETS
from efmodel.model import loading
from efmodel.settings import Settings, SettingsError
from efmodel.speech import vocabulary
from tests.efmodel.model.test_backbone import write_checkpoint

RUN = Path(__file__).parents[2] / "data" / "run-0.1.0"  # written by version 0.1.0


@torch.no_grad()
def test_a_model_of_version_0_1_0_loads_whole_and_cut():
    whole, tokenizer = loading.load(RUN)
    cut, _ = loading.load(RUN, exit=1)
    with safe_open(RUN / "model" / "model.safetensors", "pt") as stored:
        assert whole.state_dict().keys() == set(stored.keys())
        assert all(torch.equal(whole.state_dict()[n], stored.get_tensor(n)) for n in stored.keys())
    assert set(cut.state_dict()) == {n for n, exit in whole.owner_exits().items() if exit <= 1}
    samples = torch.randn(1, 16_000)
    logits = whole(samples).logits
    assert [tuple(x.shape) for x in logits] == [(1, 26, len(tokenizer))] * whole.config.num_exits
    assert all(torch.isfinite(x).all() for x in logits)
    torch.testing.assert_close(cut(samples).logits[0], logits[0], atol=1e-5, rtol=0)
    assert not whole.training and not cut.training


def test_weighted_of_version_0_1_0_is_linear():
    assert '"exit_loss": "weighted"' in (RUN / "model" / "config.json").read_text()
    for config in (loading.load(RUN)[0].config, loading.describe(str(RUN))[0]):
        assert config.exit_loss == "linear"
        assert config.cut(1).exit_loss == "linear"


@pytest.mark.parametrize("folder", [RUN, RUN / "model"])
def test_a_saved_model_is_described_and_a_run_starts_from_it(folder):
    config, tokenizer = loading.describe(str(folder))
    model, spelled = loading.starting_model(Settings(model=str(folder), exit_loss="sum"))
    assert config.exit_layers == model.config.exit_layers == [1, 2]
    assert vocabulary.to_json(tokenizer) == vocabulary.to_json(spelled)
    assert model.config.exit_loss == "sum"
    stored = loading.load(folder)[0].state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_described_with_its_tokenizer(name):
    config, tokenizer = loading.describe(name)
    assert config.exit_layers == list(PRESETS[name]["exit_layers"])
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), tokenizer.pad_token_id)


def test_a_run_starts_from_a_preset_with_random_weights():
    model, tokenizer = loading.starting_model(Settings(model="tiny", train="lora", lora_rank=2))
    assert model.config.vocab_size == len(tokenizer) and model.config.lora_rank == 2


def test_a_checkpoint_is_described_as_it_is_built(tmp_path):
    write_checkpoint(tmp_path, "wav2vec2")
    config, tokenizer = loading.describe(str(tmp_path), [1, 3])
    model, _ = loading.starting_model(Settings(model=str(tmp_path), exit_layers="1,3"))
    assert config.exit_layers == model.config.exit_layers == [1, 3]
    assert config.vocab_size == model.config.vocab_size == len(tokenizer)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(loading.ModelError, match="found no config.json in .*, wanted a saved"):
        loading.load(tmp_path)
    with pytest.raises(loading.ModelError, match="exit: found 9, wanted 1 to 2"):
        loading.load(RUN, exit=9)
    wanted = "model: found 'huge', wanted one of tiny, .*, a folder, or a checkpoint's Hub name"
    with pytest.raises(loading.ModelError, match=wanted):
        loading.describe("huge")
    with pytest.raises(SettingsError, match=wanted):
        loading.starting_model(Settings(model="huge"))
    with pytest.raises(SettingsError, match="model: found no config.json in"):
        loading.starting_model(Settings(model=str(tmp_path)))


def test_loading_a_model_imports_nothing_for_data_messages_or_plots():
    unneeded = ("datasets", "evaluate", "flwr", "peft", "matplotlib", "jiwer")
    modules = "efmodel.model.loading, efmodel.speech.audio, efmodel.speech.text"
    script = f"import sys, {modules}; print(*(n for n in {unneeded} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr
