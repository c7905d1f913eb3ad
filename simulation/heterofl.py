"""HeteroFL, a baseline: weak clients train a narrower model instead of a shallower one.

Diao, Ding, Tarokh, "HeteroFL: Computation and Communication Efficient Federated Learning for
Heterogeneous Clients" (ICLR 2021, arXiv 2010.01264). In a run::

    ef-asr simulate --set strategy=simulation.heterofl:HeteroFL
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import INFO
from typing import Any, TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common import NDArray, log
from flwr.serverapp import Grid

from efmodel.config import EarlyExitConfig
from efmodel.model.early_exit import EarlyExitForCTC
from efmodel.protocol import CAPACITY, MODEL_CONFIG
from server_app.strategy import PartialFedAvg
from server_app.strategy.arrays import packed, view
from server_app.strategy.combinations import allow_only
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.requests import Requests
from server_app.strategy.running_sums import NotFiniteError

NEAR = 0.01  # share of the parameters: widths that differ by less than this count as equally near

Tensor = TypeVar("Tensor", NDArray, torch.Tensor)


class HeteroFL(PartialFedAvg):
    """Every client trains all layers, a weak one the leading channels of each.

    A client of capacity c is sent the model of ``widths(config)[c - 1]``, which has as many
    parameters as the whole model cut at exit c, and a single exit after the last layer: HeteroFL
    has no early exits. Each element of a tensor becomes the mean over the clients that hold it
    (section 3); without such a client it keeps its value. In a run's results "exit" c (trainers,
    loss, WER, CER) means width c, scored as a separate model; the clients' losses have one entry.
    The model saved at the end has the whole width; of its exits only the last was trained.

    Left out are static batch normalisation, since the models here have layer norms and no batch
    statistics; the scaler (a narrow layer's output divided by its share of the width), since norms
    bring the input of each layer and head to unit scale; and the masked loss, since every client
    uses the whole alphabet. Two more parts depend on the width: the weight norm of the positional
    convolution, computed over the slice, and a conformer's sinusoidal positions.

    Use it in simulations only: a deployed node would compare its capacity with the narrow model's
    single exit.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        As for PartialFedAvg.
    **partial : Any
        PartialFedAvg's arguments, but for frozen tensors, noise, clipping and secure aggregation;
        only in float32, with the coverage "trainers", no shrinkage, no client moments
        and no relay.
    """

    def __init__(self, owner_exits: Mapping[str, int], **partial: Any) -> None:
        super().__init__(owner_exits, **partial)
        limits = {
            "wire-dtype": (self.wire_dtype, "float32"),
            "coverage": (self.coverage, "trainers"),
            "shrinkage": (self.shrinkage, 0.0),
            "client-moments": (self.client_moments, "fresh"),
            "relay": (self.relay, 1),
            "max-update-norm": (partial.get("max_update_norm", "off"), "off"),
            "secure-aggregation": (self.secure is not None, False),
            "freeze or train": ("frozen tensors" if partial.get("frozen") else "all", "all"),
        }
        allow_only(limits, "with HeteroFL: its clients hold slices of every layer")
        self.widths: list[EarlyExitConfig] = []  # by capacity
        self.slices = SliceRequests(self.requests)
        self.requests = self.slices

    def summary(self) -> None:
        """Log what is about to run."""
        log(INFO, "\t├──> HeteroFL: widths in place of %d exits", self.num_exits)
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Choose the widths in the first round, and send each client its slices."""
        if not self.widths:
            self._choose(EarlyExitConfig.from_dict(json.loads(str(config[MODEL_CONFIG]))))
        return super().configure_train(server_round, arrays, config, grid)

    def _choose(self, config: EarlyExitConfig) -> None:
        self.widths = self.client_models(config)
        self.slices.use(self.widths)
        for capacity, width in enumerate(self.widths, start=1):
            size = f"hidden {width.hidden_size}, {width.num_attention_heads} heads"
            size = f"{size}, intermediate {width.intermediate_size}"
            ratio = num_parameters(width) / num_parameters(config.cut(capacity))
            log(INFO, "width %d: %s; %.3f of exit %d's parameters", capacity, size, ratio, capacity)

    def client_models(self, config: EarlyExitConfig) -> list[EarlyExitConfig]:
        """Return the model that a client of each capacity trains: the one of its width."""
        return widths(config)

    def running_mean(self, current: Mapping[str, NDArray]) -> PartialMean:
        """Return the empty sums of slices."""
        return SliceMean(current, self.slices.whole_name)

    def depth(self, trained: Iterable[str], capacity: int) -> int:
        """Return the width that a client trained: always the one that it was sent."""
        return capacity

    def models_to_score(self, model: EarlyExitForCTC) -> list[EarlyExitForCTC]:
        """Return the model of each width, narrow to wide; each is scored by itself."""
        state = model.state_dict()
        models = []
        for config, its_shapes in zip(self.widths, self.slices.shapes, strict=True):
            slices = {}
            for name, shape in its_shapes.items():
                whole = self.slices.whole_name(name)
                slices[name] = part(whole, state[whole], shape).reshape(shape)
            models.append(EarlyExitForCTC(config).to(model.device))
            models[-1].load_state_dict(slices)
        return models


class SliceRequests(Requests):
    """Requests that carry a narrow model: its description, and its slices of the whole tensors."""

    def __init__(self, whole: Requests) -> None:
        super().__init__(whole.owner_exits, whole.wire_dtype, whole.frozen, whole.keys)
        self.num_exits = max(whole.owner_exits.values())
        self.widths: list[EarlyExitConfig] = []  # by capacity
        self.shapes: list[dict[str, tuple[int, ...]]] = []  # of each width's tensors

    def use(self, widths: list[EarlyExitConfig]) -> None:
        """Set the model of each capacity."""
        self.widths = widths
        self.shapes = [shapes(width) for width in widths]

    def whole_name(self, name: str) -> str:
        """Return the whole model's name of a narrow one's tensor: its only head is the last."""
        return name.replace("exits.1.", f"exits.{self.num_exits}.")

    def tensors(self, capacity: int, leaving_out: frozenset[str]) -> ArrayRecord:
        """Return the slices of a client of that capacity, by the narrow model's names."""
        slices = {}
        for name, shape in self.shapes[capacity - 1].items():
            whole = self.whole_name(name)
            slices[name] = packed(part(whole, view(self.sent[whole]), shape).reshape(shape))
        return ArrayRecord(slices)

    def content(self, capacity: int, holds_frozen: bool) -> RecordDict:
        """Return the request: it describes the narrow model as if there were no other."""
        content = super().content(capacity, holds_frozen)
        config = content.config_records[self.keys[1]]
        config[MODEL_CONFIG] = self.widths[capacity - 1].to_json_string()
        config[CAPACITY] = 1  # the narrow model has one exit
        return content


class SliceMean(PartialMean):
    """Running sums, one per tensor of the whole model, with a weight for each element.

    For an element i of a tensor and the clients k whose slice holds it::

        theta[i] <- sum_k w_k theta^k[i] / sum_k w_k
    """

    def __init__(self, current: Mapping[str, NDArray], whole_name: Callable[[str], str]) -> None:
        super().__init__("trainers")
        self.current = current
        self.whole_name = whole_name
        self.slices: dict[str, NDArray] = {}  # sum_k w_k theta^k of each element
        self.held: dict[str, NDArray] = {}  # sum_k w_k of each element

    def add(
        self,
        arrays: Mapping[str, NDArray],
        weight: float,
        factors: Mapping[str, float] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """Add one client's slices, as values in float32; ``factors`` and ``scales`` are not used.

        Raises
        ------
        NotFiniteError
            Naming the tensor with nan or inf; then nothing is added.
        """
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NotFiniteError(f"{name}: found nan or inf")
        for name, array in arrays.items():
            whole = self.whole_name(name)
            if whole not in self.slices:
                self.slices[whole] = np.zeros(self.current[whole].shape, np.float32)
                self.held[whole] = np.zeros(self.current[whole].shape, np.float32)
            self.weights[whole] = self.weights.get(whole, 0.0) + weight
            self.trainers[whole] = self.trainers.get(whole, 0) + 1
            sums = part(whole, self.slices[whole], array.shape)
            sums += np.float32(weight) * array.reshape(sums.shape)
            held = part(whole, self.held[whole], array.shape)
            held += np.float32(weight)

    def mean(self, name: str, current: NDArray) -> NDArray:
        """Return the new value of a tensor whose value was ``current``, in ``current``'s dtype."""
        held = self.held[name]
        mean = np.divide(self.slices[name], held, out=current.astype(np.float32), where=held > 0)
        return mean.astype(current.dtype, copy=False)


def part(name: str, whole: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a view of the part of a tensor that a narrower model's tensor of that shape holds.

    That is the leading slice. A gate's tensor has two halves, values and gates, as ``glu`` splits
    them: the view has the halves as its first axis, and the leading slice of each.
    """
    if ".gate." in name:
        whole = whole.reshape(2, -1, *whole.shape[1:])
        shape = (2, shape[0] // 2, *shape[1:])
    return whole[tuple(slice(size) for size in shape)]


def narrow(config: EarlyExitConfig, heads: int, intermediate: int) -> EarlyExitConfig:
    """Return the configuration with fewer heads of the same size, and only the last exit.

    Everything but the feed-forward layers narrows with the heads. Groups of the positional
    convolution keep their width, so that the leading groups are slices of the whole.
    """

    def share(size: int) -> int:
        return max(1, size * heads // int(config.num_attention_heads))

    sizes = config.to_dict()
    sizes |= {
        "num_attention_heads": heads,
        "hidden_size": share(config.hidden_size),
        "intermediate_size": intermediate,
        "conv_dim": [share(size) for size in config.conv_dim],
        "num_conv_pos_embedding_groups": share(config.num_conv_pos_embedding_groups),
        "exit_layers": [config.num_hidden_layers],
    }
    narrower: EarlyExitConfig = EarlyExitConfig.from_dict(sizes)
    return narrower


def widths(config: EarlyExitConfig) -> list[EarlyExitConfig]:
    """Return the width of each capacity, with as many parameters as the model cut at that exit.

    Among widths that differ from it by less than ``NEAR``, heads and feed-forward layers shrink by
    the most similar factor. The deepest capacity has the whole width.
    """
    whole, groups = config.num_attention_heads, config.num_conv_pos_embedding_groups
    convolves = config.layer_type != "conformer"  # to encode positions
    lines: dict[int, tuple[int, int]] = {}  # by heads, parameters: of 1 channel, of each further
    for heads in range(1, whole + 1):
        if convolves and groups * heads % whole:
            continue  # the last group would end inside one of the whole model's
        one, two = (num_parameters(narrow(config, heads, size)) for size in (1, 2))
        lines[heads] = (one, two - one)

    def nearest(wanted: int) -> EarlyExitConfig:
        rated = []
        for heads, (one, each) in lines.items():
            size = min(max(1 + round((wanted - one) / each), 1), config.intermediate_size)
            error = abs(one + each * (size - 1) - wanted) / wanted
            unlike = abs(math.log(size / config.intermediate_size * whole / heads))
            rated.append((max(error, NEAR), unlike, heads, size))
        *_, heads, size = min(rated)
        return narrow(config, heads, size)

    exits = range(1, config.num_exits)
    narrower = [nearest(num_parameters(config.cut(exit))) for exit in exits]
    return [*narrower, narrow(config, whole, config.intermediate_size)]


def shapes(config: EarlyExitConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a model, without allocating it."""
    with torch.device("meta"):
        state = EarlyExitForCTC(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def num_parameters(config: EarlyExitConfig) -> int:
    """Return the number of parameters and buffers of a model."""
    return sum(math.prod(shape) for shape in shapes(config).values())
