"""A saved or an exported model, loaded for recognition.

torch and transformers are imported for a saved model only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efmodel.decoding.beam import BeamSearch
from efmodel.decoding.stages import Engine
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError
from efmodel.export.folder import Description, is_exported
from efmodel.speech.normaliser import Normaliser
from efmodel.speech.spelling import Spelling, single_characters


@dataclass(frozen=True)
class Loaded:
    """What a recogniser needs of a model.

    Attributes
    ----------
    engine : Engine
        The model, cut at the deepest exit to use.
    tokens : Tokens
        What its labels stand for.
    thresholds : Mapping
        ``{score's name: E - 1 thresholds}``; empty for a model that was not calibrated.
    policy : str
        The scores that decide unless another policy is asked for.
    normaliser : Normaliser
        What is done to a text before it is written in the model's characters.
    """

    engine: Engine
    tokens: Tokens
    thresholds: Mapping[str, Sequence[float]]
    policy: str
    normaliser: Normaliser

    def search(self, hot_words: Sequence[str], language_model: str | Path | None) -> BeamSearch:
        """Return the search with a language model or hot words, in the model's spelling."""
        characters = single_characters(self.tokens.tokens, self.tokens.space)
        spelling = Spelling(characters, self.normaliser)
        return BeamSearch(
            self.tokens,
            hot_words=[spelling.spell(word).words for word in hot_words],
            language_model=language_model,
        )


def load(model: str | Path, exit: int | None, device: str) -> Loaded:
    """Load a model.

    Parameters
    ----------
    model : str or Path
        The folder of an exported recogniser, or what :mod:`efmodel.model.loading` knows.
    exit : int, optional
        The exit (from 1) at which the model is cut; by default it is whole.
    device : str
        As torch names it; "cpu" for an exported recogniser.

    Raises
    ------
    UserError
        If there is no such model, exit or device.
    """
    if is_exported(model):
        return _exported(Path(model).expanduser(), exit, device)
    from efmodel.model.loading import load as load_saved
    from efmodel.model.loading import local_folder
    from efmodel.model.stages import Engine as TorchEngine
    from efmodel.speech.vocabulary import normaliser_of

    network, tokenizer = load_saved(local_folder(model), exit)
    return Loaded(
        TorchEngine(network.to(device)),
        Tokens.of(tokenizer),
        network.config.exit_thresholds or {},
        network.config.exit_policy,
        normaliser_of(tokenizer),
    )


def _exported(folder: Path, exit: int | None, device: str) -> Loaded:
    from efmodel.export.runtime import Engine as OnnxEngine

    if device != "cpu":
        raise UserError(f"device: found {device}, wanted cpu: an exported model runs there")
    description = Description.read(folder)
    engine = OnnxEngine(folder, description, exit)
    return Loaded(
        engine,
        description.labels(),
        description.thresholds(engine.num_exits),
        description.exit_policy,
        Normaliser.of(description.normaliser),
    )
