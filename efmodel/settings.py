"""The run config as typed values: every key with its topic, default, meaning and check.

The defaults stand in pyproject.toml too, because Flower reads them there; a test keeps both equal.
The file is longer than others because each key is declared once, with all that is said of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from efmodel.checks import (
    ABOVE_ZERO,
    FRACTION,
    FROM_ZERO,
    PROBABILITY,
    SHARE,
    UP_TO_HALF,
    Check,
    at_least,
    one_of,
    parsed_by,
)
from efmodel.errors import UserError, did_you_mean
from efmodel.exit_weights import EXIT_WEIGHTS
from efmodel.partition import PARTITIONS, kind_and_number
from efmodel.speech import alphabet, languages
from efmodel.speech.layouts.columns import WANTED as COLUMNS_WANTED
from efmodel.speech.layouts.columns import parse as parse_columns
from efmodel.speech.normaliser import Normaliser

CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*")  # of a language, such as pt or sv-SE

# Topics of the keys, in the order in which tables show them.
MODEL, DATA, TEXTS, SIMULATION = "model", "data", "texts", "simulation"
TRAINING, AGGREGATION, COHORT = "training", "aggregation", "cohort"
PRIVACY, DEVICES, RUN = "privacy", "devices", "run"

# Kinds of random masks in `masks`, and the field of EarlyExitConfig that each one sets.
MASKS = {
    "bands": "mask_mel_bins",
    "frames": "mask_mel_frames",
    "time": "mask_time_prob",
    "channels": "mask_feature_prob",
}
# Kinds of random changes to training speech in `augment`.
PAUSES, NOISE, LEVEL, JOINS = AUGMENTATIONS = ("pauses", "noise", "level", "joins")
AUGMENTATIONS_WANTED = f"off, or a list of {', '.join(AUGMENTATIONS)}"
MASKS_WANTED = "model, off, or a list such as bands:20,frames:5,time:0.05,channels:0.1"


class SettingsError(UserError):
    """A key of the run config that does not exist, or whose value is not allowed."""


def mask_sizes(masks: str) -> dict[str, float]:
    """Return what the key ``masks`` changes in a model's configuration, as {field: value}.

    Raises
    ------
    ValueError
        If ``masks`` cannot be read.
    """
    if masks == "model":
        return {}
    if masks == "off":
        return dict.fromkeys(MASKS.values(), 0)
    sizes: dict[str, float] = {}
    for part in masks.split(","):
        kind, _, number = part.strip().partition(":")
        whole = kind in ("bands", "frames")
        value = int(number) if whole else float(number)
        if kind not in MASKS or not (value >= 0 if whole else 0 <= value < 1):
            raise ValueError(f"masks: found {masks!r}, wanted {MASKS_WANTED}")
        sizes[MASKS[kind]] = value
    return sizes


def augmentations(augment: str) -> frozenset[str]:
    """Return the kinds of random changes that the key ``augment`` lists.

    Raises
    ------
    ValueError
        If it lists another kind.
    """
    if augment == "off":
        return frozenset()
    kinds = frozenset(part.strip() for part in augment.split(","))
    if not kinds <= set(AUGMENTATIONS):
        raise ValueError(f"augment: found {augment!r}, wanted {AUGMENTATIONS_WANTED}")
    return kinds


def tolerance(calibrate: str) -> float | None:
    """Return the number that the key ``calibrate`` gives; None for "off".

    Raises
    ------
    ValueError
        If it is neither "off" nor a number from 0.
    """
    if calibrate == "off":
        return None
    value = float(calibrate)
    if not 0 <= value < float("inf"):
        raise ValueError(f"calibrate: found {calibrate!r}, wanted off, or a number from 0")
    return value


def key(topic: str, default: Any, meaning: str, check: Check | None = None) -> Any:
    """Declare a key of the run config."""
    return field(default=default, metadata={"topic": topic, "meaning": meaning, "check": check})


@dataclass(frozen=True)
class Settings:
    """The run config. A field ``exit_loss`` is the key ``exit-loss``."""

    model: str = key(
        MODEL,
        "tiny",
        "Model to start from: a preset (tiny, small, paper, wav2vec2-base, wav2vec2-large), the "
        "folder of a saved model, or a wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint (Hub "
        "name or folder).",
    )
    exit_layers: str = key(
        MODEL,
        "",
        "Encoder layers after which a checkpoint gets its exits, such as `4,8,12`. Empty: after "
        "every second layer.",
    )
    freeze: str = key(
        MODEL,
        "",
        "Part of the model that no client trains: `frontend`, or `layers:4` for the front end and "
        "the layers up to 4. Empty: none.",
    )
    train: str = key(
        MODEL,
        "all",
        "What clients train: all of the model, only the heads of the exits, or the heads and "
        "low-rank adapters (LoRA) in the encoder layers.",
        one_of("all", "heads", "lora"),
    )
    lora_rank: int = key(
        MODEL, 8, "Rank of the adapters with `train=lora` or `personal=lora`.", at_least(1)
    )

    data: str = key(
        DATA,
        "sample",
        "Corpus to train and test on: sample, audiofolder, librispeech, tedlium, voxpopuli, "
        "commonvoice, mls, fleurs, speechocean762, or the name of a corpus from a plug-in.",
    )
    data_path: str = key(
        DATA,
        "",
        "Folder that `data=audiofolder` reads, or a local copy of a corpus from the Hub. The "
        "node config of a device overrides it.",
    )
    columns: str = key(
        DATA,
        "",
        "Columns of a folder's table that have unusual names, such as `text=satz,speaker=wer`. The "
        "node config of a device overrides it.",
        parsed_by(parse_columns, COLUMNS_WANTED),
    )
    data_streaming: bool = key(
        DATA,
        False,
        "Stream a corpus from the Hub and stop when max-speakers and max-utterances are reached.",
    )
    max_speakers: int = key(
        DATA, 0, "Use only this many training speakers, the first of the corpus. 0: all.",
        at_least(0),
    )  # fmt: skip
    tune_speakers: int = key(
        DATA,
        0,
        "Hold back this many training speakers and test on them, in place of the test split: for "
        "tuning. 0: test on the test split.",
        at_least(0),
    )
    max_utterances: int = key(
        DATA, 0, "Use at most this many utterances of each client, drawn by seed. 0: all.",
        at_least(0),
    )  # fmt: skip
    max_seconds: float = key(
        DATA, 30.0, "Longest recording, in seconds; longer ones are skipped.", ABOVE_ZERO
    )
    audio_mb: int = key(
        DATA,
        256,
        "Megabytes of decoded audio that each process keeps in memory, for all of its clients; "
        "other recordings are decoded again when they are needed. The node config of a device "
        "overrides it.",
        at_least(1),
    )

    vocabulary: str = key(
        TEXTS,
        "auto",
        "Characters or pieces of words that a model spells with. `auto`: what the clients' texts "
        "use, asked before round 1 (a-z and the apostrophe where that suffices). A language "
        "(`de`), the characters themselves (`characters:abc`), pieces of words learned from a "
        "text file on the server (`bpe:FILE:256`), or a file with characters or a tokenizer. A "
        "saved model and a checkpoint keep their own with `auto`.",
        parsed_by(alphabet.source, alphabet.WANTED, (alphabet.AUTO, *languages.known())),
    )
    vocabulary_min_nodes: int = key(
        TEXTS,
        2,
        "With `vocabulary=auto`, leave out characters that fewer nodes use; if there are fewer "
        "nodes than this, those that not all of them use.",
        at_least(1),
    )
    language: str = key(
        TEXTS,
        "",
        "Language, such as `de`. Of a corpus that has several, it is read; its alphabet is in the "
        "vocabulary; numbers, currencies, times and signs in texts become its words. Empty: the "
        "corpus's first language, and rules for texts that suit every one.",
        Check(lambda code: not code or CODE.fullmatch(code) is not None, "a code such as de"),
    )
    case: str = key(
        TEXTS,
        "fold",
        "Whether capital and small letters are the same (`fold`) or differ (`keep`).",
        one_of("fold", "keep"),
    )
    numbers: str = key(
        TEXTS,
        "words",
        "What becomes of digits in texts: `words`, where `language` is set and has them; "
        "`digits`, characters like any other; `drop`.",
        one_of("words", "digits", "drop"),
    )

    partition: str = key(
        SIMULATION,
        "speaker",
        "How simulated clients share the speech: `speaker` (each speaker on one client), "
        "`speaker:N` (each speaker dealt evenly to N clients), `iid` (all utterances dealt "
        "evenly), or `dirichlet:ALPHA` (each speaker spread over the clients in random shares).",
        parsed_by(kind_and_number, PARTITIONS),
    )
    capacities: str = key(
        SIMULATION,
        "uniform",
        "Capacities of simulated clients: `uniform` (as many clients at each exit), `full` (all "
        "at the deepest), or the share of clients at each exit, such as `0.5,0.3,0.2`.",
    )

    exit_loss: str = key(
        TRAINING,
        "mean",
        "How the losses of a client's exits are combined: `mean` and `sum` weigh all exits alike, "
        "`linear` deeper ones more, `inverse` shallower ones more, `deepening` goes from `inverse` "
        "to `linear` during the run, `last` trains the deepest exit only.",
        one_of(*EXIT_WEIGHTS),
    )
    distill: float = key(
        TRAINING,
        0.0,
        "Weight of the distillation loss, which draws the shallower exits towards the client's "
        "deepest one. 0: no distillation.",
        FROM_ZERO,
    )
    local_epochs: int = key(
        TRAINING, 2, "Passes over a client's own data in each round.", at_least(1)
    )
    proximal_mu: float = key(
        TRAINING,
        0.0,
        "FedProx: weight of the squared distance to the model received. 0: plain training.",
        FROM_ZERO,
    )
    lr: float = key(TRAINING, 3e-3, "Learning rate of AdamW on the clients.", ABOVE_ZERO)
    lr_schedule: str = key(
        TRAINING,
        "cooldown",
        "Learning rate over the run: `cooldown` (constant, then falling to 0 in the last 30 % of "
        "the run) or `constant`.",
        one_of("cooldown", "constant"),
    )
    lr_warmup: float = key(
        TRAINING,
        0.0,
        "Share of the run in which the learning rate first rises from 0, for pretrained models. 0: "
        "it starts with `lr`.",
        FRACTION,
    )
    lr_layer_decay: float = key(
        TRAINING,
        1.0,
        "Factor of the learning rate for each encoder layer below the top one, for pretrained "
        "models: with 0.9 the third one from the top learns with 0.81 of `lr`. Heads learn with "
        "all of it. 1: all learn alike.",
        SHARE,
    )
    batch_seconds: float = key(
        TRAINING, 12.0, "Largest batch in seconds of audio, padding included.", ABOVE_ZERO
    )
    batch_utterances: int = key(
        TRAINING, 6, "Largest batch in utterances; it gives corpora of short utterances enough "
        "optimizer steps.", at_least(1)
    )  # fmt: skip
    speed_perturbation: float = key(
        TRAINING,
        0.1,
        "Also train on speech played slower and faster by this share. 0: only at its own speed.",
        UP_TO_HALF,
    )
    augment: str = key(
        TRAINING,
        "pauses,noise,level,joins",
        "Random changes to the training speech, beside its speed: `pauses` of up to 2 s around "
        "it, background `noise` at 10 to 40 dB, its `level`, and `joins` of several utterances "
        "in a row. With pauses and noise a few takes have no speech at all. `off`: none.",
        parsed_by(augmentations, AUGMENTATIONS_WANTED),
    )
    masks: str = key(
        TRAINING,
        "model",
        "Random masks on the training input: `model` (as the model is configured), `off`, or a "
        "list of the widest SpecAugment masks in mel bands (`bands:20`) and in frames of 10 ms "
        "(`frames:5`), and the shares of frames (`time:0.05`) and channels (`channels:0.1`) masked "
        "behind the front end. Kinds that are not listed stay as in the model.",
        parsed_by(mask_sizes, MASKS_WANTED),
    )
    precision: str = key(
        TRAINING,
        "float32",
        "Number format of matrix products, on clients and server.",
        one_of("float32", "bfloat16"),
    )
    compile: bool = key(
        TRAINING,
        False,
        "Compile the encoder layers before training. Needs a C++ compiler; pays off on a GPU.",
    )
    gradient_checkpointing: bool = key(
        TRAINING,
        False,
        "Recompute the activations in the backward pass: less memory, more time.",
    )

    strategy: str = key(
        AGGREGATION,
        "partial-fedavg",
        "Aggregation strategy: partial-fedavg, partial-fedavgm, partial-fedadam, partial-fedyogi, "
        "partial-fedadagrad, partial-lars, partial-lamb, partial-fedexp, the name of a plug-in, or "
        "your own class as `module:Class`.",
    )
    strategy_options: str = key(
        AGGREGATION, "", "Further arguments of the strategy's class, such as `alpha=0.3 name=x`."
    )
    coverage: str = key(
        AGGREGATION,
        "trainers",
        "Average a tensor over the clients that trained it, or over the whole cohort.",
        one_of("trainers", "cohort"),
    )
    shrinkage: float = key(
        AGGREGATION,
        0.0,
        "Average as if so many more clients had changed nothing: a tensor that few clients trained "
        "then moves less.",
        FROM_ZERO,
    )
    average_rounds: int = key(
        AGGREGATION,
        1,
        "Evaluate and save the mean of the models of about so many rounds; training goes on from "
        "the last one. 1: the last one.",
        at_least(1),
    )
    weighting: str = key(
        AGGREGATION,
        "examples",
        "Weight of a client in the average: its training utterances or seconds of speech, 1 for "
        "all, a function of its training loss or WER, or utterances times capacity (`depth`).",
        one_of("examples", "seconds", "uniform", "loss", "wer", "depth"),
    )
    client_moments: str = key(
        AGGREGATION,
        "fresh",
        "What the clients' AdamW starts from in each round: nothing (`fresh`), or the mean of the "
        "second moments that earlier clients ended with, which the `server` keeps and sends, one "
        "number per row of a tensor.",
        one_of("fresh", "server"),
    )
    relay: int = key(
        AGGREGATION,
        1,
        "Clients in a chain: each one trains the model that the one before it sent, and the "
        "chains' models are averaged. A round then takes so many times as long. 1: all clients "
        "train the round's model, side by side.",
        at_least(1),
    )
    server_learning_rate: float = key(
        AGGREGATION, 1.0, "Server learning rate of partial-fedavgm.", ABOVE_ZERO
    )
    server_momentum: float = key(
        AGGREGATION, 0.9, "Momentum of partial-fedavgm and partial-lars.", FRACTION
    )
    eta: float = key(
        AGGREGATION,
        0.01,
        "Server learning rate of partial-fedadam, -fedyogi, -fedadagrad, -lars and -lamb; with the "
        "last two it is a share of each tensor's norm.",
        ABOVE_ZERO,
    )
    beta_1: float = key(
        AGGREGATION,
        0.9,
        "Decay of the first moment of partial-fedadam, partial-fedyogi and partial-lamb.",
        FRACTION,
    )
    beta_2: float = key(
        AGGREGATION,
        0.99,
        "Decay of the second moment of partial-fedadam, partial-fedyogi and partial-lamb.",
        FRACTION,
    )
    tau: float = key(
        AGGREGATION,
        1e-3,
        "Term that partial-fedadam, -fedyogi, -fedadagrad and -lamb add to the root of the second "
        "moment; smaller is more adaptive.",
        ABOVE_ZERO,
    )

    fraction_train: float = key(COHORT, 0.15, "Share of the nodes that train in a round.", SHARE)
    min_train_nodes: int = key(
        COHORT, 3, "Train with at least this many nodes, if so many are connected.", at_least(1)
    )
    min_nodes: int = key(COHORT, 2, "Wait for this many nodes before a round.", at_least(1))
    select: str = key(
        COHORT,
        "",
        "Condition on the nodes that may train, such as `capacity>=2` or `tag=kitchen`. Empty: "
        "all nodes.",
    )
    over_sample: float = key(
        COHORT,
        1.0,
        "Ask this many times as many nodes as needed; the round ends with the first replies that "
        "suffice.",
        at_least(1),
    )
    round_timeout: float = key(
        COHORT,
        3600.0,
        "Seconds after which a round (with `relay` each of its steps) ends without the missing "
        "replies, or the wait for nodes ends.",
        ABOVE_ZERO,
    )
    max_failed_rounds: int = key(
        COHORT, 3, "End the run after this many rounds in a row without a usable reply.",
        at_least(1),
    )  # fmt: skip

    max_update_norm: str = key(
        PRIVACY,
        "off",
        "Clip each client's update to this L2 norm on the server: `off`, a number, or `auto` (the "
        "median norm of the round).",
    )
    clip_by: str = key(
        PRIVACY,
        "update",
        "What is clipped to max-update-norm: the `update` as a whole, or each `tensor` of it, to "
        "max-update-norm over the root of the whole model's number of tensors.",
        one_of("update", "tensor"),
    )
    dp_epsilon: float = key(
        PRIVACY,
        0.0,
        "Central differential privacy: epsilon of the whole run at dp-delta. The noise multiplier "
        "is computed from it. 0: off.",
        FROM_ZERO,
    )
    dp_noise_multiplier: float = key(
        PRIVACY,
        0.0,
        "Central differential privacy: standard deviation of the noise, as a multiple of "
        "max-update-norm. 0: no noise, or what dp-epsilon asks for.",
        FROM_ZERO,
    )
    dp_delta: float = key(
        PRIVACY,
        1e-5,
        "Delta of the whole run, at which its epsilon is stated; well below 1 over the number of "
        "clients.",
        PROBABILITY,
    )
    dp_sampling: str = key(
        PRIVACY,
        "fixed",
        "How the cohort is drawn: `fixed` (its size is fixed, and the same seed draws the same "
        "nodes) or `poisson` (each node with the probability fraction-train, by the operating "
        "system's random numbers; min-train-nodes does not apply), which makes less noise "
        "suffice.",
        one_of("fixed", "poisson"),
    )
    dp_budget: float = key(
        PRIVACY,
        0.0,
        "End the run before its epsilon, central or local, exceeds this. 0: no limit but "
        "dp-epsilon.",
        FROM_ZERO,
    )
    local_clip_norm: float = key(
        PRIVACY,
        0.0,
        "Clip a client's update to this L2 norm before it leaves the device. 0: no clipping.",
        FROM_ZERO,
    )
    local_epsilon: float = key(
        PRIVACY,
        0.0,
        "Local differential privacy: epsilon of one round's update by the classical formula; "
        "needs local-clip-norm. The run states what all rounds come to. 0: no noise.",
        FROM_ZERO,
    )
    local_delta: float = key(
        PRIVACY, 1e-5, "Local differential privacy: delta of one round's update.", PROBABILITY
    )
    secure_aggregation: bool = key(
        PRIVACY,
        False,
        "Mask each client's update so that the server learns sums over clients only. Wants a "
        "partial strategy and wire-dtype=float32.",
    )
    secagg_min_trainers: int = key(
        PRIVACY,
        3,
        "With secure aggregation, the tensors of an exit that fewer clients trained keep their "
        "values: their sum would tell too much of one client.",
        at_least(2),
    )
    secagg_max_weight: float = key(
        PRIVACY,
        1000.0,
        "With secure aggregation, the largest weight of a client with weighting=examples, seconds "
        "or depth; larger ones count as this. A smaller number makes sums more exact.",
        ABOVE_ZERO,
    )

    wire_dtype: str = key(
        DEVICES,
        "float32",
        "Number format of tensors in messages. With int8 a client adds its rounding errors to its "
        "next update.",
        one_of("float32", "float16", "int8"),
    )
    memory_mb: int = key(
        DEVICES,
        0,
        "Megabytes of memory that training may use on a device that measures its own capacity. "
        "0: half of the free memory. The node config of a device overrides it.",
        at_least(0),
    )
    seconds_per_audio_second: float = key(
        DEVICES,
        0.0,
        "Seconds that a training step may take there for one second of audio. 0: any time. The "
        "node config of a device overrides it.",
        FROM_ZERO,
    )
    cache_mb: int = key(
        DEVICES,
        4096,
        "Megabytes of a client's disk (~/.cache/ef-asr) for the outputs of the frozen part, so "
        "that they are computed only once. 0: keep none.",
        at_least(0),
    )

    rounds: int = key(RUN, 96, "Federated rounds.", at_least(1))
    evaluate_every: int = key(
        RUN, 1, "Evaluate on the server every so many rounds, and after the last.", at_least(1)
    )
    patience: int = key(
        RUN,
        0,
        "End the run once so many evaluations in a row were no better than the best before, and "
        "save the model of the best one. 0: run all rounds, and save the last model.",
        at_least(0),
    )
    calibrate: str = key(
        RUN,
        "0.02",
        "After the last round, find the thresholds of adaptive exits from counts of clients that "
        "hold the whole model: `off`, or the word errors that may come on top of the deepest "
        "exit's, as a share of them.",
        parsed_by(tolerance, "off, or a number from 0"),
    )
    personal: str = key(
        RUN,
        "off",
        "After the last round, let every client score the result on its held-out speech, fine-tune "
        "it on the rest (the `heads` only, low-rank adapters only (`lora`), or `all` that the run "
        "trains) and score it again. The report then shows error rates over the clients. `off`: "
        "ask no client.",
        one_of("off", "heads", "lora", "all"),
    )
    personal_epochs: int = key(
        RUN, 5, "Passes over a client's own data in that fine-tuning.", at_least(1)
    )
    personal_lr: float = key(RUN, 1e-3, "Learning rate of that fine-tuning.", ABOVE_ZERO)
    tracker: str = key(
        RUN,
        "off",
        "Also send each round's numbers to an experiment tracker, whose package is installed "
        "beside: `tensorboard` (in the run folder), `wandb` or `mlflow`.",
        one_of("off", "tensorboard", "wandb", "mlflow"),
    )
    seed: int = key(RUN, 0, "Seed of all random choices.", at_least(0))
    output: str = key(RUN, "", "Run folder. Empty: a new one under ~/ef-asr-runs.")
    resume: str = key(
        RUN, "", "Folder of a run to resume after its last round. Empty: start a new run."
    )

    @property
    def normaliser(self) -> Normaliser:
        """How the texts of a run are normalised."""
        return Normaliser(languages.nearest(self.language), self.case, self.numbers)

    @property
    def has_noise(self) -> bool:
        """Whether the run promises differential privacy: noise on the server or on the devices."""
        return bool(self.dp_epsilon or self.dp_noise_multiplier or self.local_epsilon)

    @classmethod
    def from_run_config(cls, config: Mapping[str, Any]) -> "Settings":
        """Read Flower's run config; keys of other programs in it are ignored.

        Raises
        ------
        SettingsError
            Naming the key, the value found and what was wanted.
        """
        declared = keys()
        values = {
            declared[name].field: checked(name, value)
            for name, value in config.items()
            if name in declared
        }
        settings = cls(**values)
        if settings.local_epsilon and not settings.local_clip_norm:
            raise SettingsError(
                f"local-clip-norm: found {settings.local_clip_norm}, wanted a number above 0: "
                f"local-epsilon is {settings.local_epsilon}"
            )
        return settings


@dataclass(frozen=True)
class Key:
    """A key of the run config, as ``Settings`` declares it.

    Attributes
    ----------
    name : str
        Such as "exit-loss"; ``field`` is then "exit_loss".
    topic : str
        What it belongs to, such as "training".
    kind : type
        Type of its value: str, int, float or bool.
    """

    name: str
    field: str
    topic: str
    kind: type
    default: Any
    meaning: str
    check: Check | None

    @property
    def allowed(self) -> str:
        """What its value may be, in words."""
        return self.check.wanted if self.check else KINDS[self.kind]


KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@cache
def keys() -> Mapping[str, Key]:
    """Return every key of the run config by its name, grouped by topic."""
    declared = (
        Key(f.name.replace("_", "-"), f.name, kind=type(f.default), default=f.default, **f.metadata)
        for f in fields(Settings)
    )
    return {each.name: each for each in declared}


def checked(name: str, value: Any) -> Any:
    """Return a value of a run config key, with the type of the key.

    Raises
    ------
    SettingsError
        If there is no such key, or it does not allow the value.
    """
    declared = keys()
    if name not in declared:
        hint = did_you_mean(name, declared)
        raise SettingsError(f"found {name!r}, wanted a key that `ef-asr config` lists{hint}")
    wanted = declared[name]
    if wanted.kind is float and type(value) is int:
        value = float(value)
    if wanted.kind is str and type(value) in (int, float):  # Flower reads max-update-norm=5 so
        value = str(value)
    if type(value) is not wanted.kind:
        raise SettingsError(f"{name}: found {value!r}, wanted {KINDS[wanted.kind]}")
    if wanted.check is not None and not wanted.check.holds(value):
        raise SettingsError(f"{name}: {wanted.check.complaint(value)}")
    return value


def from_version_0_1_0(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored run config with keys and values of version 0.1.0 in today's form.

    Version 0.1.0 called ``exit-loss = "linear"`` also "weighted", had a key ``cache`` beside
    ``cache-mb``, and four keys ``mask-*`` in place of ``masks``, whose -1 left the model's value.
    A config of today is returned unchanged.
    """
    new = dict(config)
    if new.get("exit-loss") == "weighted":
        new["exit-loss"] = "linear"
    if new.pop("cache", True) is False:
        new["cache-mb"] = 0
    old = {"bands": "mask-bands", "frames": "mask-frames", "time": "mask-time-prob",
           "channels": "mask-feature-prob"}  # fmt: skip
    values = {kind: new.pop(name, -1) for kind, name in old.items()}
    if any(value >= 0 for value in values.values()):
        new["masks"] = ",".join(f"{kind}:{value}" for kind, value in values.items() if value >= 0)
    return new
