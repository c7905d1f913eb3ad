"""The simulated clients of a run: how many there are, and whether a run with them can succeed.

All that can be known before a run starts is checked here; a run would wait for ever, or train
nothing, and say why only in its log.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from client_app.cache.folder import writable_folder
from efmodel.light_imports import skip_compiler_and_sharding
from efmodel.partition import capacity_of, utterances_of
from efmodel.settings import Settings, SettingsError, keys
from server_app import trackers
from server_app.run_folder import RunFolder

if TYPE_CHECKING:  # they bring in torch, see PLAIN
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from efmodel.config import EarlyExitConfig

# Where these keys have their defaults, nothing about model, strategy and speech needs a check: the
# default strategy refuses no other key. Such a run need not wait for torch to be imported, which
# takes longer than its SuperLink to start.
PLAIN = (
    "model", "exit-layers", "data", "data-path", "max-seconds", "capacities",
    "vocabulary", "language", "case", "numbers",
    "strategy", "strategy-options", "select", "max-update-norm",
    "clip-by", "dp-epsilon", "dp-noise-multiplier", "dp-sampling", "dp-budget", "local-epsilon",
    "secure-aggregation",
)  # fmt: skip


def number_of_clients(
    asked: int | None, of_preset: int, settings: Settings, speakers: Sequence[str]
) -> int:
    """Return the number of clients: the one asked for, the preset's, or one per training speaker.

    A resumed run keeps its number, because another one would give clients other speech.

    Parameters
    ----------
    asked : int or None
        The number on the command line.
    of_preset : int
        The method's number; 0 for none.
    settings : Settings
        The run config.
    speakers : Sequence of str
        Each training utterance's speaker.

    Raises
    ------
    SettingsError
        If a resumed run had another number, or if there is too little speech for so many clients.
    """
    default = of_preset or len(set(speakers))
    before = RunFolder.open(settings.resume).about().get("nodes") if settings.resume else None
    if before is not None:  # a run that `flwr run` started has no number in its folder
        default = before or len(set(speakers))  # a sweep writes 0 for one per speaker
        if asked not in (None, default):
            wanted = f"wanted {default}, as in {settings.resume}"
            raise SettingsError(f"nodes: found {asked}, {wanted}")
    nodes = default if asked is None else asked
    if nodes < 1:
        raise SettingsError(f"nodes: found {nodes}, wanted a number from 1")
    try:
        utterances_of(settings.partition, speakers, 0, nodes, settings.seed)
    except ValueError as error:  # the message uses the name of Flower's option
        raise SettingsError(str(error).replace("num-supernodes", "nodes")) from None
    return nodes


def check(settings: Settings, nodes: int, speech: "Dataset") -> list[str]:
    """Check that a run with these clients can succeed; return what may go wrong, as warnings.

    Parameters
    ----------
    settings : Settings
        The run config.
    nodes : int
        The number of clients.
    speech : Dataset
        The training half of the corpus.

    Raises
    ------
    UserError
        Naming what makes the run fail: too few clients, keys that the strategy would ignore,
        capacities that do not fit the model, a model whose tokenizer does not fit it, recordings
        of which none can be used, a cache that cannot be written, a tracker that is not installed.
    """
    trackers.check(settings.tracker)
    if settings.freeze or settings.train != "all":
        check_cache()
    if nodes < settings.min_nodes:
        raise too_few(settings, nodes, "clients")
    if is_plain(settings):
        return []
    skip_compiler_and_sharding()
    from efmodel.model.loading import describe_start

    check_strategy(settings)
    config, tokenizer = describe_start(settings)
    check_cohort(settings, nodes, config.num_exits)
    warnings, tokenizer = check_texts(settings, nodes, speech, tokenizer)
    return warnings + check_speech(settings, nodes, speech, config, tokenizer)


def check_strategy(settings: Settings) -> None:
    """Check the run config's strategy, and the privacy that it promises.

    Raises
    ------
    SettingsError
        As the server app would, when it starts.
    """
    from server_app.privacy import Privacy
    from server_app.strategy import registry
    from server_app.vocabulary import check_private

    if not settings.resume:  # what it spent is in its folder
        settings = Privacy.of(settings, {}).applied_to(settings)
        check_private(settings)
    registry.check(settings)


def is_plain(settings: Settings) -> bool:
    """Return whether the default model, corpus and strategy are used, which need no check."""
    declared = keys()
    return all(getattr(settings, declared[n].field) == declared[n].default for n in PLAIN)


def too_few(settings: Settings, ready: int, which: str) -> SettingsError:
    """Return the error of a run that would wait for clients that there are not."""
    return SettingsError(
        f"min-nodes: found {settings.min_nodes}, wanted at most {ready}, the number of {which}"
    )


def check_cohort(settings: Settings, nodes: int, exits: int) -> None:
    """Check that enough clients may train for a round to begin.

    Parameters
    ----------
    settings : Settings
        ``capacities``, ``select``, ``strategy``, ``min_nodes`` and ``min_train_nodes`` are used.
    nodes, exits : int
        The number of clients, and of the model's exits.

    Raises
    ------
    SettingsError
        Naming the key that keeps the run from beginning.
    """
    from server_app.strategy import registry
    from server_app.strategy.base import RunStrategy
    from server_app.strategy.node import Node
    from server_app.strategy.selection import selector

    whole_models = not issubclass(registry.find(settings.strategy), RunStrategy)
    try:
        capacities = [
            capacity_of(settings.capacities, place, nodes, exits) for place in range(nodes)
        ]
        selected = selector("" if whole_models else settings.select)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    clients = [Node(place, f"partition {place}", c) for place, c in enumerate(capacities)]
    ready = sum(map(selected, clients))
    if ready < settings.min_nodes:
        raise too_few(settings, ready, f"clients with {settings.select}")
    if whole_models and nodes < settings.min_train_nodes:
        raise SettingsError(
            f"min-train-nodes: found {settings.min_train_nodes}, wanted at most {nodes}, the "
            f"number of clients: {settings.strategy} waits for so many"
        )
    if whole_models and min(capacities) < exits:
        raise SettingsError(
            f"capacities: found {settings.capacities!r}, wanted 'full': {settings.strategy} sends "
            "whole models, which every client must be able to train"
        )


def check_texts(
    settings: Settings, nodes: int, speech: "Dataset", tokenizer: "PreTrainedTokenizerBase"
) -> "tuple[list[str], PreTrainedTokenizerBase]":
    """Return a warning if the vocabulary loses much of the texts, and the tokenizer of the run.

    With ``vocabulary=auto`` the server will ask the clients for their characters; what it will
    choose is known here.
    """
    from client_app.texts import of_partition
    from efmodel.model.loading import has_own_vocabulary
    from efmodel.speech import alphabet, text
    from efmodel.speech.statistics import tokenizer_of_clients
    from server_app.vocabulary import stored_tokenizer

    texts = [speech.select(of_partition(speech, (client, nodes), settings))["text"][:]
             for client in range(nodes)]  # fmt: skip
    if settings.resume:
        tokenizer = stored_tokenizer(RunFolder.open(settings.resume)) or tokenizer
    elif settings.vocabulary == alphabet.AUTO and not has_own_vocabulary(settings.model):
        tokenizer = tokenizer_of_clients(texts, settings, tokenizer)
    spelling = text.spelling_of(tokenizer)
    counted = (alphabet.count(of_client, spelling) for of_client in texts)
    line = alphabet.warning(sum(counted, alphabet.TextCount()))
    return [line] if line else [], tokenizer


def check_speech(
    settings: Settings,
    nodes: int,
    speech: "Dataset",
    config: "EarlyExitConfig",
    tokenizer: "PreTrainedTokenizerBase",
) -> list[str]:
    """Decode recordings of each client until one can be used; return a warning if some have none.

    Raises
    ------
    DataError
        If no client has one.
    """
    from client_app.texts import of_partition
    from efmodel.speech.recordings import DataError
    from efmodel.speech.utterances import SECONDS, prepare

    seconds = (SECONDS[0], settings.max_seconds)
    without: dict[int, str] = {}  # clients, and why their first recording cannot be used
    for client in range(nodes):
        reasons = []
        for index in of_partition(speech, (client, nodes), settings):
            one = speech.select([index])
            usable, skipped = prepare(one, tokenizer, config, to_train=True, seconds=seconds)
            if usable:
                break
            reasons += [
                reason if reason.startswith(name) else f"{name}: {reason}"
                for name, reason in skipped.recordings
            ]
        else:
            without[client] = next(iter(reasons), "it has none")
    if not without:
        return []
    first, reason = next(iter(without.items()))
    if len(without) == nodes:
        raise DataError(
            f"data: found no recording to train on in any of {nodes} clients ({reason})"
        )
    found = f"found no recording to train on in {len(without)} of {nodes} clients"
    return [f"data: {found}, such as partition {first} ({reason})"]


def check_cache() -> None:
    """Check that clients can keep the outputs of the frozen part.

    Raises
    ------
    SettingsError
        If their folder cannot be written.
    """
    try:
        writable_folder()
    except OSError as error:
        raise SettingsError(
            f"freeze: {error.filename} cannot be written ({error.strerror}), wanted a folder for "
            "the frozen part: set XDG_CACHE_HOME to another"
        ) from None
