"""The run config as typed values: every key, its meaning, its default, its check.

The defaults stand in pyproject.toml too, because Flower reads them there; a test keeps both equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from efmodel.exit_weights import EXIT_WEIGHTS
from efmodel.partition import PARTITIONS, kind_and_number


class SettingsError(ValueError):
    """A key of the run config with a value that cannot be."""


@dataclass(frozen=True)
class Check:
    """What a value must be: a predicate, and how to say it."""

    holds: Callable[[Any], bool]
    wanted: str


def one_of(*names: str) -> Check:
    """Demand one of the names."""
    return Check(lambda value: value in names, f"one of {', '.join(names)}")


def at_least(low: float) -> Check:
    """Demand a number of ``low`` or more."""
    return Check(lambda value: low <= value < float("inf"), f"a number from {low}")


ABOVE_ZERO = Check(lambda value: 0 < value < float("inf"), "a number above 0")
FROM_ZERO = Check(lambda value: 0 <= value < float("inf"), "a number from 0")
FRACTION = Check(lambda value: 0 <= value < 1, "a number from 0, below 1")
SHARE_OR_OWN = Check(lambda value: value == -1 or 0 <= value < 1, "a share from 0, or -1")
SHARE = Check(lambda value: 0 < value <= 1, "a share above 0, up to 1")


def _is_partition(value: str) -> bool:
    try:
        kind_and_number(value)
    except ValueError:
        return False
    return True


def key(default: Any, meaning: str, check: Check | None = None) -> Any:
    """Declare a key of the run config."""
    return field(default=default, metadata={"meaning": meaning, "check": check})


@dataclass(frozen=True)
class Settings:
    """The run config. A field ``exit_loss`` is the key ``exit-loss``."""

    model: str = key(
        "tiny",
        "preset (tiny, small, paper, wav2vec2-base, wav2vec2-large), a saved model's folder, or a "
        "wav2vec2, HuBERT, WavLM or Data2VecAudio checkpoint (Hub name or folder)",
    )
    exit_layers: str = key(
        "", "layers behind which a checkpoint's exits stand, such as `4,8,12`; empty: every second"
    )
    freeze: str = key("", "what nobody trains: frontend, or layers:4 for all up to layer 4; empty")
    train: str = key(
        "all",
        "what is trained: all, only the exits' heads, or heads and low-rank additions",
        one_of("all", "heads", "lora"),
    )
    lora_rank: int = key(8, "rank of the additions with train=lora", at_least(1))
    cache: bool = key(True, "keep a frozen part's output on the client's disk (~/.cache/ef-asr)")
    cache_mb: int = key(4096, "megabytes that it may take there", at_least(1))
    exit_loss: str = key("mean", "how the exits' losses become one", one_of(*EXIT_WEIGHTS))
    distill: float = key(
        0.0,
        "weight of the shallower exits' distance to the deepest one at hand; 0: none",
        FROM_ZERO,
    )
    strategy: str = key(
        "partial-fedavg",
        "partial-fedavg, -fedavgm, -fedadam, -fedyogi, -fedadagrad, or your own: `module:Class`",
    )
    strategy_options: str = key(
        "", "arguments of a strategy of your own, such as `alpha=0.3 name=x`"
    )
    coverage: str = key(
        "trainers",
        "average a tensor over its trainers, or over the whole cohort",
        one_of("trainers", "cohort"),
    )
    weighting: str = key(
        "examples",
        "what a client weighs",
        one_of("examples", "seconds", "uniform", "loss", "wer", "depth"),
    )
    server_learning_rate: float = key(1.0, "partial-fedavgm's step", ABOVE_ZERO)
    server_momentum: float = key(0.9, "partial-fedavgm's momentum", FRACTION)
    eta: float = key(0.01, "step of partial-fedadam, -fedyogi and -fedadagrad", ABOVE_ZERO)
    beta_1: float = key(0.9, "momentum of partial-fedadam and -fedyogi", FRACTION)
    beta_2: float = key(0.99, "memory of their second moment", FRACTION)
    tau: float = key(1e-3, "what those three add to its root: how adaptive they are", ABOVE_ZERO)
    rounds: int = key(32, "federated rounds", at_least(1))
    fraction_train: float = key(0.5, "share of the nodes that train in a round", SHARE)
    min_train_nodes: int = key(
        6, "nodes that train in a round at least, where there are so many", at_least(1)
    )
    min_nodes: int = key(2, "nodes to wait for before a round", at_least(1))
    select: str = key(
        "", "nodes that may train, such as `capacity>=2` or `tag=kitchen`; empty: all"
    )
    over_sample: float = key(
        1.0,
        "nodes asked for each one wanted; the first enough replies close the round",
        at_least(1),
    )
    round_timeout: float = key(
        3600.0, "seconds after which a round closes, or waiting for nodes ends", ABOVE_ZERO
    )
    max_failed_rounds: int = key(
        3, "rounds in a row without a usable reply before the run gives up", at_least(1)
    )
    wire_dtype: str = key(
        "float32",
        "how tensors travel; int8 keeps its rounding errors on the client for the next round",
        one_of("float32", "float16", "int8"),
    )
    max_update_norm: str = key(
        "off", "L2 norm to which a client's change is shortened: off, a number, or auto (median)"
    )
    dp_noise_multiplier: float = key(
        0.0, "central differential privacy: noise per max-update-norm; 0: none", FROM_ZERO
    )
    local_clip_norm: float = key(
        0.0, "L2 norm to which a client shortens its change before it leaves; 0: not", FROM_ZERO
    )
    local_epsilon: float = key(
        0.0,
        "local differential privacy of one round's change, with local-clip-norm; 0: none",
        FROM_ZERO,
    )
    local_delta: float = key(1e-5, "the delta that goes with local-epsilon", SHARE)
    evaluate_every: int = key(1, "rounds between central evaluations; the last too", at_least(1))
    local_epochs: int = key(2, "passes over a client's own data in a round", at_least(1))
    proximal_mu: float = key(
        0.0, "FedProx: weight of the squared distance to the model received; 0: none", FROM_ZERO
    )
    lr: float = key(3e-3, "AdamW's learning rate on the client", ABOVE_ZERO)
    lr_schedule: str = key(
        "cooldown",
        "lr over the run: falling to 0, step by step, over its last 30 %, or always the same",
        one_of("cooldown", "constant"),
    )
    batch_seconds: float = key(12.0, "seconds of audio in a batch, padding counted", ABOVE_ZERO)
    batch_utterances: int = key(6, "utterances in a client's batch at most", at_least(1))
    speed_perturbation: float = key(
        0.1,
        "clients also train on speech played slower and faster by this share; 0: as it is",
        Check(lambda value: 0 <= value <= 0.5, "a share from 0 to 0.5"),
    )
    mask_bands: int = key(
        -1, "SpecAugment's widest mask in mel bands; -1: the model's own", at_least(-1)
    )
    mask_frames: int = key(-1, "the same in frames of 10 ms", at_least(-1))
    mask_time_prob: float = key(
        -1.0,
        "share of the frames behind the front end that are masked; -1: the model's own",
        SHARE_OR_OWN,
    )
    mask_feature_prob: float = key(-1.0, "the same of its channels", SHARE_OR_OWN)
    precision: str = key(
        "float32",
        "what matrix products are computed in, on clients and server",
        one_of("float32", "bfloat16"),
    )
    compile: bool = key(
        False, "compile the encoder layers before training; wants a C++ compiler, pays on a GPU"
    )
    gradient_checkpointing: bool = key(
        False, "compute the layers' activations again in the backward pass: less memory, more time"
    )
    seed: int = key(0, "of everything random", at_least(0))
    data: str = key(
        "sample",
        "sample, audiofolder, librispeech, tedlium, voxpopuli, commonvoice, speechocean762, or a "
        "plug-in's name",
    )
    data_path: str = key(
        "",
        "folder that data=audiofolder reads, or a local copy of a corpus on the Hub; a node's own "
        "config comes first",
    )
    data_streaming: bool = key(
        False, "read no more of a corpus on the Hub than max-speakers and max-utterances ask for"
    )
    max_speakers: int = key(0, "speakers to train on, the corpus's first ones; 0: all", at_least(0))
    tune_speakers: int = key(
        0,
        "speakers to hold back of those to train on, and to test on instead of the test split: for "
        "choosing settings; 0: none",
        at_least(0),
    )
    max_utterances: int = key(
        0, "utterances of a client at most, chosen by seed; 0: all", at_least(0)
    )
    min_seconds: float = key(0.1, "shortest recording that is trained on", FROM_ZERO)
    max_seconds: float = key(30.0, "longest recording that is trained or tested on", ABOVE_ZERO)
    partition: str = key(
        "speaker",
        "simulated clients' speech: by speaker, speaker:N (a speaker's dealt out evenly over N "
        "clients), iid (dealt out evenly), or dirichlet:ALPHA (each speaker's spread over clients "
        "in random shares)",
        Check(_is_partition, PARTITIONS),
    )
    capacities: str = key(
        "uniform", "simulated clients' capacities: uniform, full, or shares such as 0.5,0.3,0.2"
    )
    memory_mb: int = key(
        0,
        "megabytes that training may take on a device that measures its own capacity; 0: half of "
        "what is free; a node's own config comes first",
        at_least(0),
    )
    seconds_per_audio_second: float = key(
        0.0, "seconds that a step may take there per second of audio; 0: any", FROM_ZERO
    )
    output: str = key("", "run folder; empty: a new one under ~/ef-asr-runs")
    resume: str = key("", "run folder to go on with after its last round; empty: start anew")
    keep_checkpoints: int = key(2, "last checkpoints kept, beside the best one", at_least(1))

    @classmethod
    def from_run_config(cls, config: Mapping[str, Any]) -> "Settings":
        """Read Flower's run config; keys that are none of ours are left to whoever reads them.

        Raises
        ------
        SettingsError
            Naming the key, the value found and what was wanted.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            name = each.name.replace("_", "-")
            if name in config:
                values[each.name] = _checked(name, config[name], type(each.default), each.metadata)
        settings = cls(**values)
        if settings.local_epsilon and not settings.local_clip_norm:
            raise SettingsError(
                f"local-clip-norm: found {settings.local_clip_norm}, wanted a number above 0: "
                f"local-epsilon is {settings.local_epsilon}"
            )
        return settings


def _checked(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str and type(value) in (int, float):  # max-update-norm=5, as Flower reads it
        value = str(value)
    if type(value) is not kind:
        raise SettingsError(f"{name}: found {value!r}, wanted {kind.__name__}")
    check: Check | None = metadata["check"]
    if check is not None and not check.holds(value):
        raise SettingsError(f"{name}: found {value!r}, wanted {check.wanted}")
    return value
