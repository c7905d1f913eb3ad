"""The vocabulary of a run: a resumed run keeps its own, ``auto`` asks the nodes.

Before round 1 each node answers which characters its texts use, and how often. No text leaves it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any

import torch
from flwr.app import ConfigRecord
from flwr.common import log
from flwr.serverapp import Grid
from transformers import PreTrainedTokenizerBase

from efmodel import atomic_file
from efmodel.config import EarlyExitConfig
from efmodel.model.loading import Recogniser, has_own_vocabulary, starting_model
from efmodel.protocol import ASK_ALPHABET, describe_model
from efmodel.settings import Settings, SettingsError
from efmodel.speech import alphabet, vocabulary
from server_app.run_folder import RunFolder, read_object
from server_app.strategy.cohort import Nodes

KEPT = ("vocabulary", "language", "case", "numbers")  # keys that a resumed run cannot change
SHOWN = 50  # characters that were left out, in a line of the log


@dataclass(frozen=True)
class RunVocabulary:
    """A run's tokenizer, and where it comes from.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        It spells the texts.
    nodes : int
        Nodes whose characters it was made from; 0 if none was asked.
    left_out : Counter
        How often they use each character that was left out.
    """

    tokenizer: PreTrainedTokenizerBase
    nodes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def write(self, folder: RunFolder) -> None:
        """Write ``vocabulary.json``, from which a resumed run takes it."""
        about = {
            "tokenizer": json.loads(vocabulary.to_json(self.tokenizer)),
            "characters": "".join(sorted(vocabulary.single_letters(self.tokenizer))),
            "texts": str(vocabulary.normaliser_of(self.tokenizer)),
            "nodes": self.nodes,
            "left-out": dict(self.left_out.most_common()),
        }
        text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
        atomic_file.write(folder.vocabulary, text.encode())


def stored_tokenizer(folder: RunFolder) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of the run in a folder; None if it has none, as before version 0.3."""
    if not folder.vocabulary.is_file():
        return None
    return vocabulary.from_json(json.dumps(read_object(folder.vocabulary)["tokenizer"]))


def settle(
    grid: Grid,
    nodes: Nodes,
    settings: Settings,
    folder: RunFolder,
    changes: Mapping[str, tuple[Any, Any]],
    start: Recogniser,
) -> Recogniser:
    """Return the model and the tokenizer that a run trains.

    Parameters
    ----------
    grid, nodes : Grid, Nodes
        The nodes; a new run queries those that are connected.
    settings : Settings
        The run config.
    folder : RunFolder
        Of the run; ``vocabulary.json`` is written into it.
    changes : Mapping
        What the run config changes in that of the run that is resumed.
    start : Recogniser
        The starting model, whose tokenizer is the default one where nodes are to be asked.

    Raises
    ------
    SettingsError
        If a resumed run is given another vocabulary.
    TooFewNodesError
        If too few nodes connect in time.
    """
    model, tokenizer = start
    if settings.resume and folder.checkpoints.is_dir():
        for key in KEPT:
            if key in changes:
                before, now = changes[key]
                wanted = f"wanted {before!r}: a resumed run keeps its vocabulary"
                raise SettingsError(f"{key}: found {now!r}, {wanted}")
        return _with_tokenizer(settings, start, stored_tokenizer(folder) or tokenizer)
    check_private(settings)
    if settings.vocabulary == alphabet.AUTO and not has_own_vocabulary(settings.model):
        chosen = _asked(grid, nodes, settings, model.config, tokenizer)
    else:
        chosen = RunVocabulary(tokenizer)
    chosen.write(folder)
    return _with_tokenizer(settings, start, chosen.tokenizer)


def check_private(settings: Settings) -> None:
    """Check that a run with differential privacy does not ask the nodes for their characters.

    Raises
    ------
    SettingsError
        If it would.
    """
    asks = settings.has_noise and settings.vocabulary == alphabet.AUTO
    if asks and not has_own_vocabulary(settings.model):
        wanted = "wanted a language such as en, characters:abc, or a file"
        why = "the characters of the clients' texts would get into the model without noise"
        raise SettingsError(f"vocabulary: found {settings.vocabulary!r}, {wanted}: {why}")


def _with_tokenizer(
    settings: Settings, start: Recogniser, tokenizer: PreTrainedTokenizerBase
) -> Recogniser:
    """Return the starting model with heads for a tokenizer, as if it had been asked for at once."""
    model, before = start
    if tokenizer.get_vocab() == before.get_vocab():
        return model, tokenizer
    torch.manual_seed(settings.seed)
    return starting_model(settings, tokenizer)


def _asked(
    grid: Grid,
    nodes: Nodes,
    settings: Settings,
    config: EarlyExitConfig,
    default: PreTrainedTokenizerBase,
) -> RunVocabulary:
    """Return the vocabulary of the characters that the nodes' texts use.

    It is the default one where that has them all: such models fit together.
    """
    request = ConfigRecord({**describe_model(config, default), ASK_ALPHABET: True})
    ready, _ = nodes.gather(grid, settings.min_nodes, request)
    counts = {node.id: nodes.texts[node.id] for node in ready if node.id in nodes.texts}
    used = [counted.alphabet for counted in counts.values() if counted.alphabet]
    if not used:
        log(WARNING, "vocabulary: no node answered which characters its texts use")
        return RunVocabulary(default)
    tokenizer, left_out = vocabulary.of_texts(used, settings.vocabulary_min_nodes, default)
    for id, counted in counts.items():
        if counted.alphabet.keys() & left_out.keys():
            nodes.forget(id)  # queried again: what does this node lose?
    log(INFO, "vocabulary of the texts of %d nodes: %s", len(used), vocabulary.described(tokenizer))
    letters = vocabulary.single_letters(tokenizer)
    if line := alphabet.remark_on_digits(letters, vocabulary.normaliser_of(tokenizer)):
        log(INFO, "%s", line)
    if left_out:
        rest = ", ".join(f"{c} x{n}" for c, n in left_out.most_common(SHOWN))
        log(INFO, "vocabulary: left out %d characters: %s", len(left_out), rest)
    return RunVocabulary(tokenizer, len(used), left_out)
