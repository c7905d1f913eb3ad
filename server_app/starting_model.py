"""The model that round 1 starts from: a preset, a saved model, or a pretrained checkpoint."""

from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from efmodel import backbone, text
from efmodel.adapters import with_adapters
from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.model import EarlyExitForCTC
from efmodel.settings import Settings, SettingsError


def starting_model(settings: Settings) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    """Return the run config's ``model``, ready to be trained as ``train`` says, and its tokenizer.

    Raises
    ------
    SettingsError
        If there is no such model.
    """
    model, tokenizer = _model(settings)
    model.config.update({"exit_loss": settings.exit_loss})
    if settings.train == "lora":
        model = with_adapters(model, settings.lora_rank)
    return model, tokenizer


def _model(settings: Settings) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    if settings.model in PRESETS:
        tokenizer = text.of_preset(settings.model)
        config = preset(
            settings.model, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
        )
        return EarlyExitForCTC(config), tokenizer
    path = Path(settings.model).expanduser()
    name = str(path) if path.is_dir() else settings.model
    if not path.is_dir() and "/" not in name:
        wanted = f"one of {', '.join(PRESETS)}, a folder, or a checkpoint's Hub name"
        raise SettingsError(f"model: found {name!r}, wanted {wanted}")
    try:
        if path.is_dir() and _is_ours(path):
            return EarlyExitForCTC.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        layers = [int(layer) for layer in settings.exit_layers.split(",") if layer.strip()]
        model = EarlyExitForCTC.from_backbone(name, layers or None)
        return model, backbone.tokenizer(name, model.config)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error


def _is_ours(folder: Path) -> bool:
    found: str = AutoConfig.from_pretrained(folder).model_type
    return found == EarlyExitConfig.model_type
