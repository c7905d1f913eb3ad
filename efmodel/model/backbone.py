"""Early-exit models from pretrained wav2vec2, HuBERT, WavLM and Data2VecAudio checkpoints."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCTC,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Wav2Vec2FeatureExtractor,
)

from efmodel.config import SAMPLE_RATE, EarlyExitConfig
from efmodel.errors import UserError
from efmodel.model import wav2vec2_ee
from efmodel.model.weights import load_whole, stored_tensors
from efmodel.speech import vocabulary

FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
# Fields of a checkpoint's configuration that an early-exit model sets itself.
_NOT_COPIED = {"model_type", "architectures", "transformers_version", "dtype", "layerdrop"}
# Extensions of these architectures that an early-exit model lacks, and their value when turned off.
_UNSUPPORTED: dict[str, Any] = {
    "add_adapter": False,
    "adapter_attn_dim": None,
    "conv_pos_batch_norm": False,
}
# Tensors of a checkpoint: one that was trained without masks has no vector for them. Heads of
# other tasks are of no use here, nor is the teacher (copy_model.wav2vec2) in one of wav2vec2-ee.
_MAY_LACK = r"masked_spec_embed$"
_MUST_KNOW = r"^(\w+\.)?(feature_extractor|feature_projection|encoder)\."


class BackboneError(UserError):
    """A checkpoint that cannot become an early-exit model."""


def describe(
    name: str, exit_layers: Sequence[int] | None, vocab_size: int | None
) -> tuple[EarlyExitConfig, PretrainedConfig]:
    """Return the early-exit configuration for a checkpoint, and the checkpoint's configuration.

    No weights are read.

    Parameters
    ----------
    name : str
        Hub name or local folder.
    exit_layers : Sequence[int], optional
        Encoder layers from 1; by default those of the checkpoint's own exits, or else every second
        one and the last.
    vocab_size : int, optional
        By default the size of the checkpoint's CTC head, or of ``vocabulary.CHARACTERS`` if it has
        none.

    Raises
    ------
    BackboneError
        If the checkpoint does not exist, has another architecture, or has fewer layers.
    """
    source = source_config(name)
    fields = source.to_dict()
    layers = source.num_hidden_layers
    own_exits = wav2vec2_ee.exit_layers(name, source)
    exits = list(exit_layers or own_exits or [*range(2, layers, 2), layers])
    if exits[-1] > layers:
        raise BackboneError(
            f"exit-layers: found {exits}, wanted at most {layers}, the number of layers of {name}"
        )
    copied = EarlyExitConfig().to_dict().keys() - _NOT_COPIED
    sizes = {key: value for key, value in fields.items() if key in copied}
    head = has_ctc_head(name, source)
    sizes |= {
        "frontend": "waveform",
        "layer_type": "wavlm" if source.model_type == "wavlm" else "transformer",
        "exit_layers": exits,
        "num_hidden_layers": exits[-1],
        "vocab_size": vocab_size or (source.vocab_size if head else len(vocabulary.CHARACTERS)),
        "do_normalize": _expects_unit_variance(name),
        "pad_token_id": _blank(name, source) if head else vocabulary.CHARACTERS["<pad>"],
    }
    if source.model_type == "data2vec-audio":
        sizes |= {"feat_extract_norm": "layer", "do_stable_layer_norm": False}
    if not fields.get("apply_spec_augment", True):
        sizes |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return EarlyExitConfig(**sizes), source


def weights(name: str, source: PretrainedConfig, config: EarlyExitConfig) -> dict[str, Tensor]:
    """Return the checkpoint's tensors under the names of the early-exit model.

    A CTC head of the right size is copied to every exit that has no head of its own in the
    checkpoint; so is the final norm of a pre-norm stack.

    Raises
    ------
    WeightsError
        If a tensor is missing, or of another shape or type.
    """
    with_head = has_ctc_head(name, source) and source.vocab_size == config.vocab_size
    kind: Any = AutoModelForCTC if with_head else AutoModel
    checkpoint: Any = load_whole(kind, name, may_lack=_MAY_LACK, must_know=_MUST_KNOW)
    tensors: dict[str, Tensor] = checkpoint.base_model.state_dict()
    last_head = checkpoint.lm_head.state_dict() if with_head else {}
    heads = wav2vec2_ee.heads(name, source) if with_head else {}
    norm: dict[str, Tensor] = {}
    if config.has_pre_norm:
        norm = {kind: tensors.pop(f"encoder.layer_norm.{kind}") for kind in ("weight", "bias")}
    for exit, layer in enumerate(config.exit_layers, start=1):
        parts = {"projection": heads.get(layer, last_head), "norm": norm}
        tensors |= {
            f"exits.{exit}.{part}.{kind}": tensor.clone()
            for part, state in parts.items()
            for kind, tensor in state.items()
        }
    return tensors


def tokenizer(name: str, config: EarlyExitConfig) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer if it has a CTC head, otherwise one of characters.

    Raises
    ------
    BackboneError
        If the checkpoint's tokenizer is missing or does not match its head.
    """
    if not has_ctc_head(name, source_config(name)):
        return vocabulary.tokenizer_from(vocabulary.CHARACTERS)
    try:
        result: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, TypeError) as error:
        raise BackboneError(
            f"model: found a CTC head without a tokenizer in {name}, wanted both"
        ) from error
    check_tokenizer(result, config, name)
    return result


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: EarlyExitConfig, name: str) -> None:
    """Raise BackboneError if the tokenizer's tokens are not the entries of the model's heads.

    Special tokens behind the last entry are accepted: fine-tuning recipes leave ``<s>`` and
    ``</s>`` there, which no text contains.
    """
    unused = set(tokenizer.all_special_tokens) - {tokenizer.pad_token}
    size = sum(
        index < config.vocab_size or token not in unused
        for token, index in tokenizer.get_vocab().items()
    )
    blank = tokenizer.pad_token_id
    if size != config.vocab_size or blank != config.pad_token_id:
        raise BackboneError(
            f"model: found a tokenizer of {size} tokens with blank {blank} in {name}, "
            f"wanted {config.vocab_size} with blank {config.pad_token_id}, as in its head"
        )


def source_config(name: str) -> PretrainedConfig:
    """Return the configuration of a checkpoint from which an early-exit model can be made.

    Raises
    ------
    BackboneError
        If there is no such checkpoint, or it has another architecture or an unsupported extension.
    """
    try:
        source: PretrainedConfig = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise BackboneError(f"model: found no checkpoint {name!r} ({error})") from error
    if source.model_type not in FAMILIES:
        wanted = f"wanted one of {', '.join(FAMILIES)}"
        raise BackboneError(f"model: found a {source.model_type} checkpoint in {name}, {wanted}")
    _check_supported(name, source.to_dict())
    return source


def has_ctc_head(name: str, source: PretrainedConfig) -> bool:
    """Return whether the checkpoint has a CTC head, by its configuration or else by its tensors.

    Raises
    ------
    BackboneError
        If the configuration does not say, and the tensors are spread over several files.
    """
    if source.architectures:
        return any(kind.endswith("ForCTC") for kind in source.architectures)
    tensors = stored_tensors(name)
    if not tensors:
        raise BackboneError(
            f"model: found no architectures in {name}/config.json, wanted a name such as "
            "Wav2Vec2ForCTC or Wav2Vec2Model"
        )
    return "lm_head.weight" in tensors


def _blank(name: str, source: PretrainedConfig) -> int | None:
    """Return the index of the CTC blank.

    0 is the default of ``pad_token_id``: where it was never set, the tokenizer's padding decides,
    as it does when transformers decodes.
    """
    blank: int | None = source.pad_token_id
    if not blank:
        try:
            blank = AutoTokenizer.from_pretrained(name).pad_token_id
        except (OSError, ValueError, TypeError):
            pass  # ``tokenizer`` raises when one is asked for
    return blank


def _check_supported(name: str, fields: dict[str, Any]) -> None:
    """Raise BackboneError if the checkpoint uses an extension that an early-exit model lacks."""
    for key, turned_off in _UNSUPPORTED.items():
        value = fields.get(key, turned_off)
        if value != turned_off:
            raise BackboneError(f"model: found {key} = {value} in {name}, wanted {turned_off}")


def _expects_unit_variance(name: str) -> bool:
    """Return whether the checkpoint was trained on waveforms normalised to unit variance."""
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name)
    except OSError:
        return True
    if extractor.sampling_rate != SAMPLE_RATE:
        raise BackboneError(
            f"model: found a checkpoint for audio at {extractor.sampling_rate} Hz in {name}, "
            f"wanted {SAMPLE_RATE}"
        )
    return bool(extractor.do_normalize)
