"""Getting a model and its tokenizer, by name or from a folder.

A model is named by a preset (``tiny``), by the folder of a saved model or of a run, or by a
pretrained checkpoint (Hub name or folder).

- ``load`` reads a saved model, optionally cut at an exit.
- ``describe`` returns configuration and tokenizer of any model, without its weights.
- ``starting_model`` returns the model from which a run starts.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.errors import UserError, did_you_mean
from efmodel.model import backbone
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.lora import with_adapters
from efmodel.settings import Settings, SettingsError
from efmodel.speech import vocabulary

_NO_MODEL = "model: found no config.json in {}, wanted a saved model's folder"


class ModelError(UserError):
    """A model that does not exist, cannot be read, or does not have the exit asked for."""


def load(folder: Path, exit: int | None = None) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    """Return the saved model in ``folder`` and its tokenizer, ready for inference.

    Parameters
    ----------
    folder : Path
        Folder of a saved model, or a run folder, which holds one in ``model/``.
    exit : int, optional
        The exit (from 1) at which the model is cut; by default it is whole.

    Raises
    ------
    ModelError
        If the folder holds no early-exit model, or the model does not have this exit.
    """
    folder = _model_folder(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(_NO_MODEL.format(folder))
    try:
        model, tokenizer = _read(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"model: found no early-exit model in {folder} ({error})") from error
    try:
        return (model if exit is None else model.cut(exit)).eval(), tokenizer
    except ValueError as error:
        raise ModelError(str(error)) from error


def describe(
    model: str, exit_layers: Sequence[int] | None = None
) -> tuple[EarlyExitConfig, PreTrainedTokenizerBase]:
    """Return the configuration and the tokenizer of a model, without reading or making weights.

    Parameters
    ----------
    model : str
        A preset, the folder of a saved model or of a run, or a pretrained checkpoint.
    exit_layers : Sequence[int], optional
        Exits of a pretrained checkpoint; by default after every second layer and the last.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if model in PRESETS:
        tokenizer = vocabulary.of_preset(model)
        sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return preset(model, **sizes), tokenizer
    try:
        if folder := _saved_model(model):
            return EarlyExitConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        checkpoint = _checkpoint(model)
        config, _ = backbone.describe(checkpoint, exit_layers, None)
        return config, backbone.tokenizer(checkpoint, config)
    except (OSError, ValueError) as error:
        raise ModelError(str(error)) from error


def starting_model(settings: Settings) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    """Return the model from which a run starts, and its tokenizer.

    The run config's ``model`` names it; ``exit-loss``, ``train`` and ``lora-rank`` are applied.

    Raises
    ------
    SettingsError
        If there is no such model.
    """
    try:
        model, tokenizer = _build(settings)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    model.config.update({"exit_loss": settings.exit_loss})
    if settings.train == "lora":
        model = with_adapters(model, settings.lora_rank)
    return model, tokenizer


def _build(settings: Settings) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    """Return the model that the run config names: random, saved, or pretrained weights."""
    if folder := _saved_model(settings.model):
        return _read(folder)
    exit_layers = [int(layer) for layer in settings.exit_layers.split(",") if layer.strip()]
    config, tokenizer = describe(settings.model, exit_layers)
    if settings.model in PRESETS:
        return EarlyExitForCTC(config), tokenizer
    model = EarlyExitForCTC.from_backbone(_checkpoint(settings.model), exit_layers)
    return model, tokenizer


def _read(folder: Path) -> tuple[EarlyExitForCTC, PreTrainedTokenizerBase]:
    return EarlyExitForCTC.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def _model_folder(folder: Path) -> Path:
    """Return the model's folder inside a run folder, and any other folder unchanged."""
    folder = folder.expanduser()
    return folder / "model" if (folder / "model" / "config.json").is_file() else folder


def _saved_model(model: str) -> Path | None:
    """Return the folder of a saved early-exit model, or None if ``model`` names something else."""
    folder = _model_folder(Path(model))
    if model in PRESETS or not (folder / "config.json").is_file():
        return None
    fields, _ = PretrainedConfig.get_config_dict(folder)
    return folder if fields.get("model_type") == EarlyExitConfig.model_type else None


def _checkpoint(model: str) -> str:
    """Return the folder or the Hub name of a pretrained checkpoint."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(_NO_MODEL.format(folder))
        return str(folder)
    if "/" not in model:
        wanted = f"one of {', '.join(PRESETS)}, a folder, or a checkpoint's Hub name"
        raise ModelError(f"model: found {model!r}, wanted {wanted}{did_you_mean(model, PRESETS)}")
    return model
