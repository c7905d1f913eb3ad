"""The configuration and tokenizer of a model that a command names."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from efmodel.config import PRESETS, EarlyExitConfig, preset
from efmodel.model import loading
from efmodel.speech import vocabulary


def describe(model: str) -> tuple[EarlyExitConfig, PreTrainedTokenizerBase]:
    """Return the configuration and tokenizer of a preset, a saved model or a run folder.

    Raises
    ------
    ModelError
        If the folder holds no model.
    """
    if model not in PRESETS:
        saved, tokenizer = loading.load(Path(model).expanduser(), None)
        return saved.config, tokenizer
    tokenizer = vocabulary.of_preset(model)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return preset(model, **sizes), tokenizer
