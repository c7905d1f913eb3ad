"""Getting a model: saved by this version or by 0.1.0, by a preset's name, from a checkpoint."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from efmodel import EarlyExitForCTC
from efmodel.config import PRESETS
from efmodel.model import loading
from efmodel.settings import Settings, SettingsError
from efmodel.speech import vocabulary
from tests.conftest import small_config
from tests.efmodel.model.test_backbone import speech, write_checkpoint

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


def write_model(folder: Path) -> Path:
    EarlyExitForCTC(small_config()).save_pretrained(folder)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(folder)
    return folder


def write_ctc(folder: Path, **more) -> torch.nn.Module:
    model = write_checkpoint(folder, "wav2vec2", "layer", ctc=True, **more)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(folder)
    return model


def change_weights(folder: Path, *without: str, **tensors: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {n: t for n, t in weights.items() if not any(part in n for part in without)}
    save_file(kept | tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(folder: Path) -> str:
    """The one message of inference and of a run that starts from the folder."""
    with pytest.raises(loading.ModelError) as to_use:
        loading.load(folder)
    with pytest.raises(SettingsError) as to_start:
        loading.starting_model(Settings(model=str(folder)))
    assert str(to_use.value) == str(to_start.value) and "\n" not in str(to_use.value)
    return str(to_use.value).replace(str(folder), "HERE")


WANTED = "in HERE, wanted exactly those of its config.json"


def test_weights_that_are_not_the_models_are_named(tmp_path, caplog):
    bias = "exits.1.projection.bias"
    cases = {
        "missing (encoder.layers.2.attention.k_proj.bias and 15 more)": (["encoder.layers.2."], {}),
        "unexpected (scale)": ([], {"scale": torch.ones(2)}),
        f"of another shape ({bias} [2] in place of [30])": ([], {bias: torch.ones(2)}),
        f"of another type ({bias} int8 in place of float32)": ([], {bias: torch.ones(30).char()}),
        f"missing ({bias}), unexpected (bias)": ([bias], {"bias": torch.ones(30)}),
    }
    for number, (fault, (without, tensors)) in enumerate(cases.items()):
        folder = write_model(tmp_path / str(number))
        change_weights(folder, *without, **tensors)
        assert refusal(folder) == f"model: found tensors {fault} {WANTED}"
    assert not caplog.records  # transformers' own report would say it twice


def test_a_checkpoint_whose_layers_are_not_those_of_its_config_is_refused(tmp_path):
    write_ctc(tmp_path / "less")
    change_weights(tmp_path / "less", "encoder.layers.2.")
    name = "wav2vec2.encoder.layers.{}.attention.k_proj.bias and 15 more"
    assert refusal(tmp_path / "less") == f"model: found tensors missing ({name.format(2)}) {WANTED}"
    write_ctc(tmp_path / "more")
    config = tmp_path / "more" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    wanted = f"model: found tensors unexpected ({name.format(3)}) {WANTED}"
    assert refusal(tmp_path / "more") == wanted
    write_ctc(tmp_path / "headless")
    change_weights(tmp_path / "headless", "lm_head")
    assert "missing (lm_head.bias and 1 more)" in refusal(tmp_path / "headless")


@pytest.mark.parametrize("write", [write_model, write_ctc])
@pytest.mark.parametrize("share", [0, 0.01, 0.5])
def test_half_a_file_of_weights_is_one_error(write, share, tmp_path):
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert refusal(tmp_path).startswith("model: found damaged weights in HERE (")


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("config.json", '{"model_type": "early', "no readable model"),
        ("config.json", "[]", "no readable model"),
        ("config.json", '{"model_type": "early-exit-ctc", "hidden_size": "x"}', "no readable mode"),
        ("vocab.json", "{", "no readable tokenizer"),
        ("vocab.json", '{"<pad>": 0, "<unk>": 1, "|": 2}', "a tokenizer of 3 tokens"),
    ],
)
def test_other_broken_files_of_a_model_are_one_error(file, content, found, tmp_path):
    (write_model(tmp_path) / file).write_text(content)
    assert f"model: found {found}" in refusal(tmp_path)
    with pytest.raises(loading.ModelError, match=f"model: found {found}"):
        loading.describe(str(tmp_path))


@torch.no_grad()
def test_a_checkpoint_with_a_ctc_head_has_one_exit_and_gives_transformers_logits(tmp_path):
    theirs = write_ctc(tmp_path / "ctc", do_normalize=False)
    model, tokenizer = loading.load(tmp_path / "ctc")
    assert model.config.exit_layers == [4] and not model.training
    assert tokenizer.get_vocab() == vocabulary.CHARACTERS
    torch.testing.assert_close(
        model(speech()).logits[0], theirs(speech()).logits, atol=1e-4, rtol=1e-4
    )
    write_checkpoint(tmp_path / "plain", "wav2vec2")
    with pytest.raises(loading.ModelError, match="wav2vec2 checkpoint without a CTC head in"):
        loading.load(tmp_path / "plain")


def test_a_model_saved_in_bfloat16_is_loaded_in_float32(tmp_path):
    write_model(tmp_path)
    EarlyExitForCTC.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(tmp_path)
    for model, _ in (loading.load(tmp_path), loading.starting_model(Settings(model=str(tmp_path)))):
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_loading_a_model_imports_nothing_for_data_messages_or_plots():
    unneeded = ("datasets", "evaluate", "flwr", "peft", "matplotlib", "jiwer")
    modules = "efmodel.model.loading, efmodel.speech.audio, efmodel.speech.text"
    script = f"import sys, {modules}; print(*(n for n in {unneeded} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr
