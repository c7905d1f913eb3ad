"""Loading a saved model's folder, cut at the exit asked for."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from efmodel.model import EarlyExitForCTC


class ModelError(ValueError):
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
