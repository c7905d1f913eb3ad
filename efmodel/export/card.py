"""The model card of an exported model: that of the model, and what this folder holds."""

from pathlib import Path

from efmodel.model.card import NAME


def write(folder: Path, model: Path, holds: str) -> None:
    """Write the card of an exported model; a model without a card gives none.

    Parameters
    ----------
    folder : Path
        The exported model's.
    model : Path
        The folder of the model from which it was exported.
    holds : str
        What lies in the folder, and how to use it; Markdown.
    """
    from huggingface_hub import ModelCard

    if (model / NAME).is_file():
        card = ModelCard.load(model / NAME)
        card.data.library_name = "onnx"
        card.text = f"{card.text.rstrip()}\n\n## This folder\n\n{holds}\n"
        card.save(folder / NAME)
