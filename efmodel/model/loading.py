"""Getting a model and its tokenizer: a saved folder, a preset's sizes, a pretrained checkpoint."""

from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.errors import UserError, did_you_mean
from efmodel.model import backbone
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.lora import with_adapters
from efmodel.settings import Settings, SettingsError
from efmodel.speech import vocabulary


class ModelError(UserError):
    """A folder that holds no model of ours, or an exit that it does not have."""


def load(folder: Path, exit: int | None) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    """Return the model in ``folder``, cut at ``exit`` (by default whole), and its tokenizer.

    A run folder is as good: its ``model/`` is taken.

    Raises
    ------
    ModelError
        If the folder holds no model, or the model no such exit.
    """
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise ModelError(f"model: found no config.json in {folder}, wanted a saved model's folder")
    try:
        model = EarlyExitForCTC.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"model: found no early-exit model in {folder} ({error})") from error
    if exit is None:
        return model.eval(), tokenizer
    try:
        return model.cut(exit).eval(), tokenizer
    except ValueError as error:
        raise ModelError(str(error)) from error


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
        tokenizer = vocabulary.of_preset(settings.model)
        config = preset(
            settings.model, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
        )
        return EarlyExitForCTC(config), tokenizer
    path = Path(settings.model).expanduser()
    name = str(path) if path.is_dir() else settings.model
    if not path.is_dir() and "/" not in name:
        wanted = f"one of {', '.join(PRESETS)}, a folder, or a checkpoint's Hub name"
        raise SettingsError(f"model: found {name!r}, wanted {wanted}{did_you_mean(name, PRESETS)}")
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
