"""Pretrained checkpoints: the same hidden states as transformers' own model of the same weights."""

import json

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    Data2VecAudioModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMForCTC,
    WavLMModel,
)

from efmodel import EarlyExitForCTC
from efmodel.model import backbone
from efmodel.speech import vocabulary
from efmodel.speech.text import decode_greedily, encode

SIZES = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=[24, 24, 24],
    conv_kernel=[10, 3, 3],
    conv_stride=[5, 4, 4],
    num_feat_extract_layers=3,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    num_codevector_groups=2,
    codevector_dim=16,
    proj_codevector_dim=16,
    vocab_size=30,
    pad_token_id=0,
)
KINDS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2ForCTC),
    "hubert": (HubertConfig, HubertModel, HubertForCTC),
    "wavlm": (WavLMConfig, WavLMModel, WavLMForCTC),
    "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel, Data2VecAudioForCTC),
}
FORMS = [
    *((kind, "group", False) for kind in list(KINDS)[:3]),
    *((kind, "layer", True) for kind in list(KINDS)[:3]),
    ("wav2vec2", "layer", False),
    ("wav2vec2", "group", True),
    ("data2vec-audio", "layer", False),
]


def write_checkpoint(
    folder, kind, norm="group", stable=False, ctc=False, do_normalize=True, **more
):
    """Write a random checkpoint as ``save_pretrained`` does, and return transformers' model."""
    config_class, model_class, ctc_class = KINDS[kind]
    sizes = SIZES | dict(feat_extract_norm=norm, do_stable_layer_norm=stable, **more)
    if kind == "data2vec-audio":
        sizes |= {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
    torch.manual_seed(0)
    model = (ctc_class if ctc else model_class)(config_class(**sizes)).eval()
    with (
        torch.no_grad()
    ):  # transformers starts norms and biases at 1 and 0: a mix-up would not show
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
    return model


def speech(samples: int = 6000, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed)) + 0.1


@pytest.mark.parametrize("kind, norm, stable", FORMS)
def test_hidden_states_are_those_of_transformers(kind, norm, stable, tmp_path):
    theirs = write_checkpoint(tmp_path, kind, norm, stable, do_normalize=False)
    ours = EarlyExitForCTC.from_backbone(str(tmp_path), exit_layers=[1, 3, 4]).eval()
    audio = speech()
    with torch.no_grad():
        wanted = theirs(audio, output_hidden_states=True)
        found = ours(audio, output_hidden_states=True).hidden_states
        last = ours.exits["3"].norm(found[-1])  # a final norm is each exit's own here
    for layer, state in zip([1, 3, 4], found, strict=True):
        torch.testing.assert_close(state, wanted.hidden_states[layer], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last, wanted.last_hidden_state, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_attention_weights_are_those_of_transformers(kind, tmp_path):
    theirs = write_checkpoint(tmp_path, kind, "layer", kind != "data2vec-audio", do_normalize=False)
    theirs.set_attn_implementation("eager")
    ours = EarlyExitForCTC.from_backbone(str(tmp_path), exit_layers=[1, 3]).eval()
    ours.set_attn_implementation("eager")
    wanted = theirs(speech(), output_attentions=True).attentions
    found = ours(speech(), output_attentions=True).attentions
    assert len(found) == 3  # one for each layer
    for mine, one in zip(found, wanted, strict=False):
        torch.testing.assert_close(mine, one, atol=1e-5, rtol=1e-4)
    assert ours(speech()).attentions is None


@pytest.mark.parametrize("kind, norm, stable", FORMS)
def test_padding_changes_nothing_and_a_cut_model_gives_the_same(kind, norm, stable, tmp_path):
    write_checkpoint(tmp_path, kind, norm, stable)
    model = EarlyExitForCTC.from_backbone(str(tmp_path), exit_layers=[1, 2, 4]).eval()
    short, long = speech(4000, seed=1), speech(9000, seed=2)
    batch = torch.cat([torch.nn.functional.pad(short, (0, 5000)), long])
    mask = torch.ones_like(batch, dtype=torch.long)
    mask[0, 4000:] = 0
    with torch.no_grad():
        alone, together = model(short), model(batch, mask)
        small = model.cut(2)
        cut_logits = small(batch, mask).logits
    for one, both in zip(alone.logits, together.logits, strict=True):
        frames = one.shape[1]
        torch.testing.assert_close(both[:1, :frames], one, atol=1e-4, rtol=1e-4)
    for cut, whole in zip(cut_logits, together.logits[:2], strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-5)
    assert set(small.state_dict()) == {n for n, e in model.owner_exits().items() if e <= 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_ctc_head_starts_every_exit_and_brings_its_tokenizer(kind, tmp_path):
    theirs = write_checkpoint(tmp_path, kind, "layer", ctc=True, do_normalize=False)
    upper = {t.upper() if len(t) == 1 else t: i for t, i in vocabulary.CHARACTERS.items()}
    vocabulary.tokenizer_from(upper).save_pretrained(tmp_path)
    ours = EarlyExitForCTC.from_backbone(str(tmp_path), exit_layers=[2, 4]).eval()
    audio = speech()
    with torch.no_grad():
        torch.testing.assert_close(
            ours(audio).logits[-1], theirs(audio).logits, atol=1e-4, rtol=1e-4
        )
    heads = [head.projection.weight for head in ours.exits.values()]
    assert torch.equal(heads[0], heads[1]) and heads[0].data_ptr() != heads[1].data_ptr()
    found = backbone.tokenizer(str(tmp_path), ours.config)
    assert found.get_vocab()["A"] == upper["A"] and found.pad_token_id == ours.config.pad_token_id


def recipe_tokenizer(folder, letters="abcdefghijklmnopqrstuvwxyz'"):
    """A tokenizer as the usual fine-tuning recipe makes it: the blank last, then <s> and </s>."""
    tokens = ["|", *letters, "[UNK]", "[PAD]"]
    path = folder / "tokens.json"
    path.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
    tokenizer = Wav2Vec2CTCTokenizer(str(path), **names)
    assert len(tokenizer) == len(tokens) + 2
    tokenizer.save_pretrained(folder)
    return tokenizer


@torch.no_grad()
def test_a_recipes_tokenizer_has_special_tokens_behind_the_head_and_names_the_blank(tmp_path):
    theirs = write_checkpoint(tmp_path, "wav2vec2", "layer", ctc=True)
    tokenizer = recipe_tokenizer(tmp_path)
    assert theirs.config.pad_token_id == 0 and theirs.config.vocab_size == 30
    ours = EarlyExitForCTC.from_backbone(str(tmp_path)).eval()
    assert (ours.config.pad_token_id, ours.config.vocab_size) == (29, 30)
    found = backbone.tokenizer(str(tmp_path), ours.config)
    path = torch.tensor([[29, 8, 29, 9, 9, 0, 1, 29, 1, 29]])  # blank, h, blank, i, i, space, a...
    logits = torch.nn.functional.one_hot(path, 30).float()
    decoded = decode_greedily(logits, torch.tensor([10]), found)
    assert decoded == tokenizer.batch_decode(path) == ["hi aa"]
    sent = vocabulary.from_json(vocabulary.to_json(found))  # as a client gets it
    assert decode_greedily(logits, torch.tensor([10]), sent) == decoded
    assert encode("hi aa", sent) == [8, 9, 0, 1, 1]


def test_a_blank_that_was_set_is_kept_and_one_behind_the_head_is_refused(tmp_path):
    for folder, letters, before, after in (
        (tmp_path / "set", "abcdefghijklmnopqrstuvwxyz'", 7, 7),
        (tmp_path / "behind", "abcdefghijklmnopqrstuvwxyz'äöüé", 0, 33),
    ):
        write_checkpoint(folder, "wav2vec2", ctc=True, pad_token_id=before)
        recipe_tokenizer(folder, letters)
        config, _ = backbone.describe(str(folder), None, None)
        assert config.pad_token_id == after
        with pytest.raises(backbone.BackboneError, match="found a tokenizer of .* wanted 30"):
            backbone.tokenizer(str(folder), config)


def test_without_architectures_the_tensors_tell_of_a_head(tmp_path):
    theirs = write_checkpoint(tmp_path, "hubert", "layer", ctc=True)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": None}))
    ours = EarlyExitForCTC.from_backbone(str(tmp_path))
    assert torch.equal(ours.exits["1"].projection.weight, theirs.lm_head.weight)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    with pytest.raises(backbone.BackboneError, match="found no architectures in .*/config.json"):
        EarlyExitForCTC.from_backbone(str(tmp_path))


def test_do_normalize_is_the_checkpoints(tmp_path):
    write_checkpoint(tmp_path / "yes", "wav2vec2", "layer", do_normalize=True, conv_bias=True)
    write_checkpoint(tmp_path / "no", "wav2vec2", "layer", do_normalize=False, conv_bias=True)
    quiet, loud = speech(), 5 * speech()
    for folder, same in (("yes", True), ("no", False)):
        model = EarlyExitForCTC.from_backbone(str(tmp_path / folder)).eval()
        with torch.no_grad():
            one, other = model(quiet).logits[0], model(loud).logits[0]
        assert torch.allclose(one, other, atol=1e-3) == same


def test_a_pretraining_checkpoint_loads(tmp_path):
    torch.manual_seed(0)
    theirs = Wav2Vec2ForPreTraining(Wav2Vec2Config(**SIZES)).eval()
    theirs.save_pretrained(tmp_path)
    ours = EarlyExitForCTC.from_backbone(str(tmp_path), exit_layers=[2]).eval()
    assert ours.config.num_hidden_layers == 2 and ours.config.vocab_size == len(
        vocabulary.CHARACTERS
    )
    weight = theirs.wav2vec2.encoder.layers[1].attention.q_proj.weight
    assert torch.equal(ours.encoder.layers[1].attention.q_proj.weight, weight)


def test_saved_and_loaded_again_it_is_the_same(tmp_path):
    write_checkpoint(tmp_path / "theirs", "wavlm", "layer", True)
    model = EarlyExitForCTC.from_backbone(str(tmp_path / "theirs"), exit_layers=[2, 4]).eval()
    model.save_pretrained(tmp_path / "ours")
    again = EarlyExitForCTC.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        assert torch.equal(model(speech()).logits[1], again(speech()).logits[1])


def test_what_no_model_can_be_made_from_is_named(tmp_path):
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    write_checkpoint(tmp_path / "good", "wav2vec2")
    write_checkpoint(tmp_path / "adapters", "wav2vec2", add_adapter=True)
    write_checkpoint(tmp_path / "ctc", "wav2vec2", ctc=True)
    vocabulary.tokenizer_from({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}).save_pretrained(
        tmp_path / "ctc"
    )
    load = EarlyExitForCTC.from_backbone
    with pytest.raises(
        backbone.BackboneError, match="found a bert checkpoint .* wanted one of wav"
    ):
        load(str(tmp_path / "bert"))
    with pytest.raises(
        backbone.BackboneError, match=r"exit-layers: found \[2, 6\], wanted at most 4"
    ):
        load(str(tmp_path / "good"), exit_layers=[2, 6])
    with pytest.raises(backbone.BackboneError, match="found add_adapter = True"):
        load(str(tmp_path / "adapters"))
    with pytest.raises(backbone.BackboneError, match="found no checkpoint"):
        load(str(tmp_path / "nowhere"))
    model = load(str(tmp_path / "ctc"))
    with pytest.raises(backbone.BackboneError, match="found a tokenizer of 4 tokens .* wanted 30"):
        backbone.tokenizer(str(tmp_path / "ctc"), model.config)
    path = tmp_path / "good" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sampling_rate": 8000}))
    with pytest.raises(backbone.BackboneError, match="8000 Hz .* wanted 16000"):
        load(str(tmp_path / "good"))
