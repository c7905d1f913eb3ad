"""Checkpoints of augustgw/wav2vec2-ee, in the formats that its versions of transformers wrote."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from efmodel import EarlyExitForCTC, Recogniser
from efmodel.errors import UserError
from efmodel.model import backbone, loading
from efmodel.settings import Settings
from efmodel.speech import vocabulary
from tests.conftest import tone
from tests.efmodel.model.test_backbone import SIZES, speech

# The tokens of facebook/wav2vec2-base, which that code decodes with.
TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
OLD_NAMES = {"parametrizations.weight.original0": "weight_g",
             "parametrizations.weight.original1": "weight_v"}  # fmt: skip


class EEWav2Vec2ForCTC(Wav2Vec2ForCTC):
    """As in their train_utils.py: six names for one head; or six heads, were they not shared."""

    def __init__(self, config, shared=True, exits=6):
        super().__init__(config)
        heads = [self.lm_head if shared else nn.Linear(32, 32) for _ in range(exits)]
        self.decoders = nn.ModuleList(heads)

    def exits(self, audio):
        states = self.wav2vec2(audio, output_hidden_states=True).hidden_states
        return [head(states[2 * (i + 1)]) for i, head in enumerate(self.decoders)]


def their_model(stable=False, **heads):
    torch.manual_seed(0)
    sizes = SIZES | {"num_hidden_layers": 12, "vocab_size": 32, "do_stable_layer_norm": stable}
    model = EEWav2Vec2ForCTC(Wav2Vec2Config(**sizes), **heads).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def write(folder, form, architecture="EEWav2Vec2ForCTC", tokenizer=True, **model):
    """Write a random checkpoint as that code's trainer left it; return the folder."""
    model = their_model(**model)
    folder.mkdir()
    fields = model.config.to_dict() | {
        "architectures": [architecture],
        "_name_or_path": "facebook/wav2vec2-base",
        "transformers_version": "4.28.1",
    }
    (folder / "config.json").write_text(json.dumps(fields))
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    if tokenizer:
        names = {"bos_token": "<s>", "eos_token": "</s>"}
        indices = {token: index for index, token in enumerate(TOKENS)}
        vocabulary.tokenizer_from(indices, **names).save_pretrained(folder)
    weights = model.state_dict()
    if form == "safetensors":  # a shared tensor is stored once, under its first name
        first = {tensor.data_ptr(): name for name, tensor in reversed(weights.items())}
        kept = {name: weights[name].contiguous() for name in first.values()}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
    else:
        for new, old in OLD_NAMES.items():
            prefix = "wav2vec2.encoder.pos_conv_embed.conv."
            weights[prefix + old] = weights.pop(prefix + new)
        torch.save(weights, folder / "pytorch_model.bin")
    return folder


def normalised(audio):  # as their feature extractor does
    return (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()


@pytest.mark.parametrize("form, shared", [("bin", True), ("bin", False), ("safetensors", True)])
@torch.no_grad()
def test_every_exit_gives_the_logits_of_their_code(form, shared, tmp_path):
    theirs = their_model(shared=shared)
    ours, tokenizer = loading.load(write(tmp_path / "ee", form, shared=shared))
    assert list(ours.config.exit_layers) == [2, 4, 6, 8, 10, 12]
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(32)] == TOKENS
    found, wanted = ours(speech()).logits, theirs.exits(normalised(speech()))
    for mine, one in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, one, atol=1e-4, rtol=1e-4)
    heads = [head.projection.weight for head in ours.exits.values()]
    assert torch.equal(heads[0], heads[1]) == shared
    assert len({weight.data_ptr() for weight in heads}) == 6  # they part when they are trained


def test_a_recogniser_and_a_run_start_from_it_and_a_run_may_choose_exits(tmp_path):
    theirs = their_model(shared=False)
    write(tmp_path / "ee", "bin", shared=False)
    assert Recogniser.from_pretrained(tmp_path / "ee", exit=2).transcribe(tone(1)).exit == 2
    model, _ = loading.starting_model(Settings(model=str(tmp_path / "ee")))
    assert torch.equal(model.exits["3"].projection.bias, theirs.decoders[2].bias)
    settings = Settings(model=str(tmp_path / "ee"), exit_layers="3,8")
    model, _ = loading.starting_model(settings)
    assert torch.equal(model.exits["1"].projection.bias, theirs.lm_head.bias)  # no exit of theirs
    assert torch.equal(model.exits["2"].projection.bias, theirs.decoders[3].bias)


def test_fewer_exits_and_a_teacher_beside_the_model(tmp_path):
    write(tmp_path / "ee", "bin", "ManualExitActivationWav2Vec2ForCTC", exits=3)
    assert loading.load(tmp_path / "ee")[0].config.exit_layers == [2, 4, 6]
    write(tmp_path / "kd", "bin", "KDEEWav2Vec2ForCTC")
    weights = torch.load(tmp_path / "kd" / "pytorch_model.bin")
    teacher = {f"copy_model.{name}": tensor for name, tensor in weights.items()}
    torch.save(weights | teacher, tmp_path / "kd" / "pytorch_model.bin")
    assert loading.load(tmp_path / "kd")[0].config.num_exits == 6


def test_what_it_lacks_is_named(tmp_path):
    write(tmp_path / "no-tokens", "bin", tokenizer=False)  # their trainer saves none
    with pytest.raises(loading.ModelError, match="without a tokenizer in .*no-tokens"):
        loading.load(tmp_path / "no-tokens")
    write(tmp_path / "large", "bin", stable=True)
    with pytest.raises(UserError, match="found do_stable_layer_norm = True in .*large"):
        EarlyExitForCTC.from_backbone(str(tmp_path / "large"))


class Harm:
    """A pickle that would write a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("harm",)


def test_a_pickle_with_more_than_tensors_is_not_loaded(tmp_path):
    write(tmp_path / "ee", "bin")
    torch.save({"lm_head.weight": Harm(tmp_path / "harm")}, tmp_path / "ee" / "pytorch_model.bin")
    with pytest.raises(loading.ModelError, match="ee"):
        loading.load(tmp_path / "ee")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("form", ["bin", "safetensors"])
@torch.no_grad()
def test_old_and_new_names_of_weight_norm(form, tmp_path):
    """A plain checkpoint, with the blank behind the letters."""
    theirs = their_model(exits=0)
    write(tmp_path / "plain", form, "Wav2Vec2ForCTC", tokenizer=False, exits=0)
    config = tmp_path / "plain" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"pad_token_id": 31}))
    tokens = {token: index for index, token in enumerate([*TOKENS[1:], "<pad>"])}
    vocabulary.tokenizer_from(tokens).save_pretrained(tmp_path / "plain")
    ours, tokenizer = loading.load(tmp_path / "plain")
    assert ours.config.pad_token_id == tokenizer.pad_token_id == 31
    found = ours(speech()).logits[-1]
    torch.testing.assert_close(found, theirs(normalised(speech())).logits, atol=1e-4, rtol=1e-4)
    assert backbone.has_ctc_head(str(tmp_path / "plain"), theirs.config)
