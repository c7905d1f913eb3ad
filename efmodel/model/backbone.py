"""From a pretrained wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint to an early-exit model."""

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
from efmodel.speech import vocabulary

FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
# What the checkpoint's configuration says of itself, its pretraining, or of exits that are ours.
_NOT_OURS = {"model_type", "architectures", "transformers_version", "dtype", "layerdrop"}


class BackboneError(ValueError):
    """A checkpoint that no early-exit model can be made from."""


def describe(
    name: str, exit_layers: Sequence[int] | None, vocab_size: int | None
) -> tuple[EarlyExitConfig, PretrainedConfig]:
    """Return the early-exit configuration for a checkpoint, and the checkpoint's own.

    ``exit_layers`` is by default every second layer; ``vocab_size`` that of the checkpoint's CTC
    head, or of our characters.

    Raises
    ------
    BackboneError
        If there is no such checkpoint, or it is of a kind that we do not know.
    """
    try:
        source = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise BackboneError(f"model: found no checkpoint {name!r} ({error})") from error
    if source.model_type not in FAMILIES:
        wanted = f"wanted one of {', '.join(FAMILIES)}"
        raise BackboneError(f"model: found a {source.model_type} checkpoint in {name}, {wanted}")
    _refuse_extras(name, source)
    layers = source.num_hidden_layers
    exits = list(exit_layers or [*range(2, layers, 2), layers])
    if exits[-1] > layers:
        raise BackboneError(f"exit-layers: found {exits}, wanted at most {layers}, as {name} has")
    known = EarlyExitConfig().to_dict()
    sizes = {k: v for k, v in source.to_dict().items() if k in known and k not in _NOT_OURS}
    head = has_ctc_head(source)
    sizes |= {
        "frontend": "waveform",
        "layer_type": "wavlm" if source.model_type == "wavlm" else "transformer",
        "exit_layers": exits,
        "num_hidden_layers": exits[-1],
        "vocab_size": vocab_size or (source.vocab_size if head else len(vocabulary.CHARACTERS)),
        "do_normalize": _normalises(name),
    }
    if source.model_type == "data2vec-audio":
        sizes |= {"feat_extract_norm": "layer", "do_stable_layer_norm": False}
    if not getattr(source, "apply_spec_augment", True):
        sizes |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    if not head:
        sizes["pad_token_id"] = vocabulary.CHARACTERS["<pad>"]
    return EarlyExitConfig(**sizes), source


def weights(name: str, source: PretrainedConfig, config: EarlyExitConfig) -> dict[str, Tensor]:
    """Return the checkpoint's tensors by the early-exit model's names.

    A CTC head of the right size starts every exit; a final norm becomes each exit's own norm.
    """
    if has_ctc_head(source) and source.vocab_size == config.vocab_size:
        whole = AutoModelForCTC.from_pretrained(name)
        found: dict[str, Tensor] = getattr(whole, whole.base_model_prefix).state_dict()
        head = {f"projection.{k}": v for k, v in whole.lm_head.state_dict().items()}
    else:
        found, head = AutoModel.from_pretrained(name).state_dict(), {}
    if config.has_pre_norm:
        for kind in ("weight", "bias"):
            head[f"norm.{kind}"] = found.pop(f"encoder.layer_norm.{kind}")
    for exit in range(1, config.num_exits + 1):
        found |= {f"exits.{exit}.{name}": tensor.clone() for name, tensor in head.items()}
    return found


def tokenizer(name: str, config: EarlyExitConfig) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer where it has a CTC head, else our characters.

    Raises
    ------
    BackboneError
        If the tokenizer is missing, or does not match the head.
    """
    if not has_ctc_head(AutoConfig.from_pretrained(name)):
        return vocabulary.tokenizer_from(vocabulary.CHARACTERS)
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, TypeError) as error:
        raise BackboneError(f"model: found a CTC head but no tokenizer in {name}") from error
    if len(found) != config.vocab_size or found.pad_token_id != config.pad_token_id:
        raise BackboneError(
            f"model: found a tokenizer of {len(found)} tokens with blank {found.pad_token_id} in "
            f"{name}, wanted {config.vocab_size} with blank {config.pad_token_id}, as its head has"
        )
    return found


def has_ctc_head(source: PretrainedConfig) -> bool:
    """Return whether the checkpoint was saved with a CTC head."""
    return any(name.endswith("ForCTC") for name in source.architectures or [])


def _refuse_extras(name: str, source: PretrainedConfig) -> None:
    extras: dict[str, Any] = {
        "add_adapter": False,
        "adapter_attn_dim": None,
        "conv_pos_batch_norm": False,
    }
    for key, wanted in extras.items():
        if (found := getattr(source, key, wanted)) != wanted:
            raise BackboneError(f"model: found {key} = {found} in {name}, wanted {wanted}")


def _normalises(name: str) -> bool:
    """Return whether the checkpoint was trained on waveforms of unit variance."""
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name)
    except OSError:
        return True
    if extractor.sampling_rate != SAMPLE_RATE:
        found = f"found audio at {extractor.sampling_rate} Hz in {name}"
        raise BackboneError(f"model: {found}, wanted {SAMPLE_RATE}")
    return bool(extractor.do_normalize)
