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


class BackboneError(ValueError):
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
        Encoder layers from 1; by default every second one and the last.
    vocab_size : int, optional
        By default the size of the checkpoint's CTC head, or of ``vocabulary.CHARACTERS`` if it has
        none.

    Raises
    ------
    BackboneError
        If the checkpoint does not exist, has another architecture, or has fewer layers.
    """
    try:
        source = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise BackboneError(f"model: found no checkpoint {name!r} ({error})") from error
    if source.model_type not in FAMILIES:
        wanted = f"wanted one of {', '.join(FAMILIES)}"
        raise BackboneError(f"model: found a {source.model_type} checkpoint in {name}, {wanted}")
    fields = source.to_dict()
    _check_supported(name, fields)
    layers = source.num_hidden_layers
    exits = list(exit_layers or [*range(2, layers, 2), layers])
    if exits[-1] > layers:
        raise BackboneError(
            f"exit-layers: found {exits}, wanted at most {layers}, the number of layers of {name}"
        )
    copied = EarlyExitConfig().to_dict().keys() - _NOT_COPIED
    sizes = {key: value for key, value in fields.items() if key in copied}
    head = has_ctc_head(source)
    sizes |= {
        "frontend": "waveform",
        "layer_type": "wavlm" if source.model_type == "wavlm" else "transformer",
        "exit_layers": exits,
        "num_hidden_layers": exits[-1],
        "vocab_size": vocab_size or (source.vocab_size if head else len(vocabulary.CHARACTERS)),
        "do_normalize": _expects_unit_variance(name),
    }
    if source.model_type == "data2vec-audio":
        sizes |= {"feat_extract_norm": "layer", "do_stable_layer_norm": False}
    if not fields.get("apply_spec_augment", True):
        sizes |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    if not head:
        sizes["pad_token_id"] = vocabulary.CHARACTERS["<pad>"]
    return EarlyExitConfig(**sizes), source


def weights(name: str, source: PretrainedConfig, config: EarlyExitConfig) -> dict[str, Tensor]:
    """Return the checkpoint's tensors under the names of the early-exit model.

    A CTC head of the right size is copied to every exit; so is the final norm of a pre-norm stack.
    """
    if has_ctc_head(source) and source.vocab_size == config.vocab_size:
        checkpoint = AutoModelForCTC.from_pretrained(name)
        tensors: dict[str, Tensor] = checkpoint.base_model.state_dict()
        head = {f"projection.{k}": v for k, v in checkpoint.lm_head.state_dict().items()}
    else:
        tensors, head = AutoModel.from_pretrained(name).state_dict(), {}
    if config.has_pre_norm:
        for kind in ("weight", "bias"):
            head[f"norm.{kind}"] = tensors.pop(f"encoder.layer_norm.{kind}")
    for exit in range(1, config.num_exits + 1):
        tensors |= {f"exits.{exit}.{key}": tensor.clone() for key, tensor in head.items()}
    return tensors


def tokenizer(name: str, config: EarlyExitConfig) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer if it has a CTC head, otherwise one of characters.

    Raises
    ------
    BackboneError
        If the checkpoint's tokenizer is missing or does not match its head.
    """
    if not has_ctc_head(AutoConfig.from_pretrained(name)):
        return vocabulary.tokenizer_from(vocabulary.CHARACTERS)
    try:
        result: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, TypeError) as error:
        raise BackboneError(
            f"model: found a CTC head without a tokenizer in {name}, wanted both"
        ) from error
    if len(result) != config.vocab_size or result.pad_token_id != config.pad_token_id:
        raise BackboneError(
            f"model: found a tokenizer of {len(result)} tokens with blank {result.pad_token_id} in "
            f"{name}, wanted {config.vocab_size} with blank {config.pad_token_id}, as in its head"
        )
    return result


def has_ctc_head(source: PretrainedConfig) -> bool:
    """Return whether the checkpoint was saved with a CTC head."""
    return any(name.endswith("ForCTC") for name in source.architectures or [])


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
