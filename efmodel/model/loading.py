"""Getting a model and its tokenizer, by name or from a folder.

A model is named by a preset (``tiny``), by the folder of a saved model or of a run, or by a
pretrained checkpoint (Hub name or folder).

- ``load`` reads a saved model, or a checkpoint with a CTC head, for inference.
- ``describe`` returns configuration and tokenizer of any model, without its weights.
- ``starting_model`` returns the model from which a run starts.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import WEIGHTS_NAME

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.errors import UserError, did_you_mean
from efmodel.model import backbone, wav2vec2_ee
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.model.lora import with_adapters
from efmodel.model.weights import load_whole
from efmodel.settings import Settings, SettingsError
from efmodel.speech import alphabet, vocabulary
from efmodel.speech.normaliser import Normaliser

_NO_MODEL = "model: found no config.json in {}, wanted a saved model's folder"


_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name


class ModelError(UserError):
    """A model that does not exist, cannot be read, or does not have the exit asked for."""


Recogniser = tuple[EarlyExitForCTC, PreTrainedTokenizerBase]


def load(folder: Path, exit: int | None = None) -> Recogniser:
    """Return the saved model in ``folder`` and its tokenizer, ready for inference.

    Parameters
    ----------
    folder : Path
        Folder of a saved model, or a run folder, which holds one in ``model/``. The folder of a
        checkpoint of transformers with a CTC head becomes a model with one exit, after its last
        layer; one of wav2vec2-ee keeps its exits.
    exit : int, optional
        The exit (from 1) at which the model is cut; by default it is whole.

    Raises
    ------
    ModelError
        If the folder holds no model, a tensor is missing, unexpected or of another kind, or the
        model does not have this exit.
    """
    folder = model_folder(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(_NO_MODEL.format(folder))
    with _readable(str(folder)):
        model, tokenizer = _read(folder) if _is_early_exit(folder) else _read_checkpoint(folder)
        return (model if exit is None else model.cut(exit)).eval(), tokenizer


def local_folder(model: str | Path) -> Path:
    """Return the folder of a model: a folder's own path, or where a name's copy of the Hub is.

    Raises
    ------
    ModelError
        If there is no such folder, and no such model on the Hub.
    """
    folder = Path(model).expanduser()
    if folder.exists() or not _HUB_NAME.fullmatch(str(model)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        copy = Path(snapshot_download(str(model), allow_patterns=["*.json", "*.safetensors"]))
        if not any(copy.glob("*.safetensors")):  # it was saved before there were any
            snapshot_download(str(model), allow_patterns=[WEIGHTS_NAME])
        return copy
    except Exception as error:  # no network, no such name, no right to read it
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"model: found no folder {model}, and no copy of a model of that name ({reason})"
        ) from None


def describe(
    model: str,
    exit_layers: Sequence[int] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[EarlyExitConfig, PreTrainedTokenizerBase]:
    """Return the configuration and the tokenizer of a model, without reading or making weights.

    Parameters
    ----------
    model : str
        A preset, the folder of a saved model or of a run, or a pretrained checkpoint.
    exit_layers : Sequence[int], optional
        Exits of a pretrained checkpoint; by default after every second layer and the last.
    tokenizer : PreTrainedTokenizerBase, optional
        A tokenizer in place of the model's own or the default one.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if model in PRESETS:
        tokenizer = tokenizer or vocabulary.of_preset(model)
        return preset(model, **_sizes(tokenizer)), tokenizer
    with _readable(model):
        if folder := _saved_model(model):
            config = EarlyExitConfig.from_pretrained(folder)
            own = _read_tokenizer(folder, config)
        else:
            checkpoint = _checkpoint(model)
            config, _ = backbone.describe(checkpoint, exit_layers, None)
            own = backbone.tokenizer(checkpoint, config)
    return (config, own) if tokenizer is None else (config.changed(**_sizes(tokenizer)), tokenizer)


def _sizes(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """Return the fields of a configuration that a tokenizer sets."""
    return {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}


def has_own_vocabulary(model: str) -> bool:
    """Return whether a model has heads that spell already: a saved one, or a CTC checkpoint.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if model in PRESETS:
        return False
    with _readable(model):
        if _saved_model(model):
            return True
        checkpoint = _checkpoint(model)
        return backbone.has_ctc_head(checkpoint, backbone.source_config(checkpoint))


def named_tokenizer(settings: Settings) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that the run config's ``vocabulary`` names; None with "auto".

    Raises
    ------
    VocabularyError
        If its file is missing, or holds no vocabulary.
    """
    if settings.vocabulary == alphabet.AUTO:
        return None
    return vocabulary.named(settings.vocabulary, settings.normaliser)


def describe_start(
    settings: Settings, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[EarlyExitConfig, PreTrainedTokenizerBase]:
    """Return configuration and tokenizer of the model from which a run starts, without weights.

    Parameters and exceptions are those of ``starting_model``.
    """
    tokenizer = tokenizer or named_tokenizer(settings)
    config, tokenizer = describe(settings.model, _exit_layers(settings), tokenizer)
    return config, _of_run(tokenizer, settings)


def starting_model(
    settings: Settings, tokenizer: PreTrainedTokenizerBase | None = None
) -> Recogniser:
    """Return the model from which a run starts, and its tokenizer.

    The run config's ``model`` names it; ``exit-loss``, ``train``, ``lora-rank`` and, where the
    model spells in other tokens than ``tokenizer``, new heads are applied.

    Parameters
    ----------
    settings : Settings
        The run config.
    tokenizer : PreTrainedTokenizerBase, optional
        By default the one that ``vocabulary`` names; with "auto" the model's own or the default.

    Raises
    ------
    SettingsError
        If there is no such model or vocabulary, or the model's weights are damaged.
    """
    try:
        tokenizer = tokenizer or named_tokenizer(settings)
        with _readable(settings.model):
            model, tokenizer = _build(settings, tokenizer)
    except (ModelError, vocabulary.VocabularyError) as error:
        raise SettingsError(str(error)) from error
    model.config.update({"exit_loss": settings.exit_loss})
    if settings.train == "lora":
        model = with_adapters(model, settings.lora_rank)
    return model, tokenizer


def _build(settings: Settings, tokenizer: PreTrainedTokenizerBase | None) -> Recogniser:
    """Return the model that the run config names: random, saved, or pretrained weights."""
    exit_layers = _exit_layers(settings)
    if settings.model in PRESETS:
        config, tokenizer = describe(settings.model, exit_layers, tokenizer)
        return EarlyExitForCTC(config), _of_run(tokenizer, settings)
    if folder := _saved_model(settings.model):
        model, own = _read(folder)
    else:
        _, own = describe(settings.model, exit_layers)
        model = EarlyExitForCTC.from_backbone(_checkpoint(settings.model), exit_layers)
    if tokenizer is None:
        return model, _of_run(own, settings)
    if tokenizer.get_vocab() != own.get_vocab():
        _set_new_heads(model, tokenizer)
    return model, _of_run(tokenizer, settings)


def _exit_layers(settings: Settings) -> list[int]:
    return [int(layer) for layer in settings.exit_layers.split(",") if layer.strip()]


def _of_run(tokenizer: PreTrainedTokenizerBase, settings: Settings) -> PreTrainedTokenizerBase:
    """Return a tokenizer with the run's normaliser; its own where the run config says nothing."""
    if settings.normaliser == Normaliser():
        return tokenizer
    return vocabulary.with_normaliser(tokenizer, settings.normaliser)


def _set_new_heads(model: EarlyExitForCTC, tokenizer: PreTrainedTokenizerBase) -> None:
    """Replace what each exit spells with by random weights for another vocabulary."""
    model.config.update(_sizes(tokenizer))
    for head in model.exits.values():
        head.projection = nn.Linear(model.config.hidden_size, model.config.vocab_size)
        model._init_weights(head.projection)


def _read(folder: Path) -> Recogniser:
    """Return the saved early-exit model in ``folder``."""
    model: EarlyExitForCTC = load_whole(EarlyExitForCTC, str(folder))
    return model, _read_tokenizer(folder, model.config)


def _read_tokenizer(folder: Path, config: EarlyExitConfig) -> PreTrainedTokenizerBase:
    with _readable(str(folder), "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    backbone.check_tokenizer(tokenizer, config, str(folder))
    return tokenizer


def _read_checkpoint(folder: Path) -> Recogniser:
    """Return a model of the checkpoint in ``folder``: with its exits, or one after the last layer.

    Only checkpoints of wav2vec2-ee have exits.
    """
    name = str(folder)
    source = backbone.source_config(name)
    if not backbone.has_ctc_head(name, source):
        raise ModelError(
            f"model: found a {source.model_type} checkpoint without a CTC head in {name}, wanted "
            "one that was trained to recognise speech"
        )
    exit_layers = wav2vec2_ee.exit_layers(name, source) or [source.num_hidden_layers]
    model = EarlyExitForCTC.from_backbone(name, exit_layers)
    return model, backbone.tokenizer(name, model.config)


@contextmanager
def _readable(name: str, part: str = "model") -> Iterator[None]:
    """Raise ModelError, with the model's name, for whatever goes wrong while it is read.

    The libraries that read its files raise many kinds of errors; tokenizers raises ``Exception``.
    """
    try:
        yield
    except UserError as error:
        raise ModelError(str(error)) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model: found no readable {part} in {name} ({reason})") from error


def model_folder(folder: Path) -> Path:
    """Return the model's folder inside a run folder, and any other folder unchanged."""
    folder = folder.expanduser()
    return folder / "model" if (folder / "model" / "config.json").is_file() else folder


def _saved_model(model: str) -> Path | None:
    """Return the folder of a saved early-exit model, or None if ``model`` names something else."""
    folder = model_folder(Path(model))
    if model in PRESETS or not (folder / "config.json").is_file():
        return None
    return folder if _is_early_exit(folder) else None


def _is_early_exit(folder: Path) -> bool:
    fields, _ = PretrainedConfig.get_config_dict(folder)
    return bool(fields.get("model_type") == EarlyExitConfig.model_type)


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
