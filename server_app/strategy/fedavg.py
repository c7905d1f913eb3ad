"""FedAvg for models that are cut: each tensor is the mean over the clients that hold it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.common import NDArray, log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from efmodel import protocol, wire
from efmodel.model.frozen import digest
from efmodel.protocol import CAPACITY, FROZEN_SET, Refusal
from server_app.strategy import clipping, exit_metrics
from server_app.strategy.arrays import packed, view
from server_app.strategy.cohort import Nodes, sample
from server_app.strategy.exchange import tensor_bytes
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.reply import (
    BadReplyError,
    checked_arrays,
    checked_scales,
    error_reason,
    only_record,
)
from server_app.strategy.round_report import Contribution, RoundReport
from server_app.strategy.selection import selector
from server_app.strategy.weighting import WEIGHTINGS, examples_of, weight_of


class PartialFedAvg(FedAvg):
    """Partial aggregation (arXiv 2405.17376); a Flower strategy for any model that can be cut.

    It knows names and exits, not models: ``owner_exits`` says which exit first needs a tensor, and
    a node of capacity c is sent, and returns, the tensors with an owner exit of at most c.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        ``{tensor name: shallowest exit that needs it}``, 0 for what all need.
    coverage : str (default: "trainers")
        Divide by the weight of a tensor's trainers, or ("cohort") of all accepted clients.
    weighting : str (default: "examples")
        What a client weighs, see ``weighting.weight_of``.
    seed : int (default: 0)
        Decides each round's cohort.
    node_timeout : float (default: 3600)
        Seconds to wait for enough nodes, and for their answers to a query.
    select : str (default: "")
        Which nodes may train, such as "capacity>=2" or "tag=kitchen"; empty for all.
    over_sample : float (default: 1)
        Nodes asked for each one wanted; the first enough replies close the round.
    wire_dtype : str (default: "float32")
        How tensors travel, see ``efmodel.wire``.
    max_update_norm : str (default: "off")
        L2 norm to which a client's change is shortened: a number, or "auto" for the median of the
        cohort's (norms per square root of the number of values), which keeps replies on disk until
        the last has come.
    dp_noise_multiplier : float (default: 0)
        Central differential privacy: Gaussian noise of this times ``max_update_norm`` on each
        tensor's *sum* of changes, hence divided by its own number of trainers on its mean.
    frozen : Iterable[str] (default: none)
        Tensors that nobody trains: a node is sent them once and keeps them.
    **fedavg : Any
        FedAvg's own arguments: ``fraction_train``, ``min_train_nodes``, ``min_available_nodes`` ...
    """

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        coverage: str = "trainers",
        weighting: str = "examples",
        seed: int = 0,
        node_timeout: float = 3600.0,
        select: str = "",
        over_sample: float = 1.0,
        wire_dtype: str = "float32",
        max_update_norm: str = "off",
        dp_noise_multiplier: float = 0.0,
        frozen: Iterable[str] = (),
        **fedavg: Any,
    ) -> None:
        super().__init__(**{"train_metrics_aggr_fn": exit_metrics.aggregate, **fedavg})
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: found {weighting!r}, wanted one of {list(WEIGHTINGS)}")
        if wire_dtype not in wire.WIRE_DTYPES:
            raise ValueError(f"wire-dtype: found {wire_dtype!r}, wanted one of {wire.WIRE_DTYPES}")
        PartialMean(coverage)  # says now what is wrong with it
        self.owner_exits = dict(owner_exits)
        self.num_exits = max(self.owner_exits.values())
        self.coverage = coverage
        self.weighting = weighting
        self.seed = seed
        self.over_sample = over_sample
        self.wire_dtype = wire_dtype
        self.max_update_norm = clipping.parse(max_update_norm)
        self.dp_noise_multiplier = dp_noise_multiplier
        if dp_noise_multiplier and not (self.max_update_norm > 0 and weighting == "uniform"):
            raise ValueError(
                "dp-noise-multiplier wants weighting = uniform and a number as max-update-norm: "
                "what one client can change must be known"
            )
        self.frozen = frozenset(frozen)
        self.nodes = Nodes(self.num_exits, node_timeout, selector(select))
        self.report = RoundReport()
        self.arrays = ArrayRecord()  # the model of this round
        self.moments: dict[str, dict[str, NDArray]] = {}  # a server optimizer's, by tensor
        self._sent = ArrayRecord()  # the same, as it travels
        self._wanted = 0  # replies that close the round
        self._messages: list[Message] = []
        self._cohort: dict[int, Node] = {}
        self._holding: dict[int, int] = {}  # node: the capacity whose frozen tensors it keeps
        self._frozen_name = ""  # under which nodes keep them

    def summary(self) -> None:
        """Log what is about to run."""
        log(INFO, "\t├──> Partial aggregation over %d exits:", self.num_exits)
        log(INFO, "\t│\t├── Coverage: %s", self.coverage)
        log(INFO, "\t│\t└── Weighting: %s", self.weighting)
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample nodes, and send each one only the tensors that its capacity needs.

        Raises
        ------
        TooFewNodesError
            If ``min_available_nodes`` nodes do not connect within ``node_timeout``.
        """
        if missing := self.owner_exits.keys() ^ arrays.keys():
            raise ValueError(f"owner_exits and arrays differ in {sorted(missing)[:3]}")
        self.report, self.arrays = RoundReport(), arrays
        self._sent = wire.for_sending(arrays, self.wire_dtype)
        ready, self.report.unmet = self.nodes.gather(grid, self.min_available_nodes, config)
        self._wanted = max(int(len(ready) * self.fraction_train), self.min_train_nodes)
        size = math.ceil(self._wanted * self.over_sample)
        cohort = sample(ready, size, f"{self.seed} {server_round}")
        if size == self._wanted:
            # Deep ones first: where clients wait for a processor, the longest are not left for the
            # end. Not where the first replies close the round: those would be the deep ones.
            cohort.sort(key=lambda node: -node.capacity)
        self._cohort = {node.id: node for node in cohort}
        self.report.sampled = {node.name: node.capacity for node in cohort}
        if self.frozen and not self._frozen_name:
            self._frozen_name = digest(self._sent, self.frozen)
        known = {node.id: self._holding.get(node.id) == node.capacity for node in cohort}
        contents = {
            (capacity, holds): self.content(server_round, capacity, holds, config)
            for capacity, holds in {(node.capacity, known[node.id]) for node in cohort}
        }
        self._messages = [
            Message(
                contents[node.capacity, known[node.id]],
                dst_node_id=node.id,
                message_type=MessageType.TRAIN,
            )
            for node in cohort
        ]
        return self._messages

    def prefix(self, capacity: int) -> ArrayRecord:
        """Return the tensors that a client of that capacity trains and returns."""
        return self.tensors(capacity, leaving_out=self.frozen)

    def tensors(self, capacity: int, leaving_out: frozenset[str]) -> ArrayRecord:
        """Return what the model of a client of that capacity is made of, as it travels."""
        owned = self.owner_exits
        return ArrayRecord(
            {
                name: array
                for name, array in self._sent.items()
                if owned[name] <= capacity and name not in leaving_out
            }
        )

    def content(
        self, server_round: int, capacity: int, holds: bool, config: ConfigRecord
    ) -> RecordDict:
        """Return the message for nodes of that capacity that hold the frozen tensors, or do not."""
        request = ConfigRecord(
            {**config, "server-round": server_round, "capacity": capacity},
        )
        if self.wire_dtype != "float32":
            request[protocol.WIRE_DTYPE] = self.wire_dtype
        if self.frozen:
            request[FROZEN_SET] = f"{self._frozen_name}-{capacity}"
        arrays = self.tensors(capacity, leaving_out=self.frozen if holds else frozenset())
        return RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: request})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold each reply into running sums as it comes, drop it, and return the new model.

        ``replies`` is consumed once, until enough have come. A reply that is an error, or not what
        it should be, is left out, named in the log and in ``report``, and the round goes on.
        Returns None where no reply was accepted.
        """
        prefixes = {c: self.prefix(c) for c in {node.capacity for node in self._cohort.values()}}
        current = {name: view(array) for name, array in self.arrays.items()}
        sent_bytes = {m.metadata.dst_node_id: tensor_bytes(m) for m in self._messages}
        fold = _Fold(self, current)
        kept: list[RecordDict] = []  # metrics only: a few numbers a client
        for reply in replies:
            node = self._sender(reply)
            try:
                if node.name in self.report.accepted:
                    raise BadReplyError("found a second reply of the same node")
                metrics, depth = fold.add(reply, node.capacity, prefixes.get(node.capacity))
            except BadReplyError as error:
                self._leave_out(server_round, node.name, str(error))
                self._holding.pop(node.id, None)  # it may have lost what it was sent
                if reply.has_error() and reply.error.code == Refusal.CAPACITY:
                    self.nodes.forget(node.id)
                continue
            kept.append(RecordDict({"metrics": metrics}))
            self.report.accepted[node.name] = Contribution.of(
                depth, sent_bytes[node.id], tensor_bytes(reply), metrics
            )
            self._holding[node.id] = node.capacity
            if depth < node.capacity:
                self._take_for(node, max(1, depth), server_round)
            if metrics.get(CAPACITY, node.capacity) != node.capacity:
                self.nodes.forget(node.id)
            if len(kept) == self._wanted:
                break
        heard = self.report.accepted.keys() | self.report.failed.keys()
        for name in sorted(self.report.sampled.keys() - heard):
            if len(kept) == self._wanted:
                self.report.spare.append(name)
            else:
                self._leave_out(server_round, name, "no reply in time")
        if not kept:
            return None, None
        mean = fold.result()
        return self._new_arrays(mean, current), self.train_metrics_aggr_fn(
            kept, self.weighted_by_key
        )

    def running_mean(self, current: Mapping[str, NDArray]) -> PartialMean:
        """Return the sums, still empty, that a round's replies are folded into."""
        return PartialMean(self.coverage)

    def depth(self, trained: Iterable[str], capacity: int) -> int:
        """Return the deepest exit that a client of that capacity trained, by its tensors' names."""
        return max(self.owner_exits[name] for name in trained)

    def _sender(self, reply: Message) -> Node:
        """Return whose reply it is; a node of capacity 0 where nothing was asked of it.

        The error reply for a lost node comes from the SuperLink: the message that a reply answers
        tells. A message has its id only once it was sent, so they are looked up here.
        """
        for message in self._messages:
            if message.metadata.message_id == reply.metadata.reply_to_message_id:
                return self._cohort[message.metadata.dst_node_id]
        return Node(reply.metadata.src_node_id, str(reply.metadata.src_node_id), 0)

    def _take_for(self, node: Node, capacity: int, server_round: int) -> None:
        """Believe what a node trains, not what it says."""
        self.nodes.met[node.id] = replace(node, capacity=capacity)
        said = "said that it can train exit %d and returned exit %d; taken for capacity %d"
        words = f"round %d: %s {said} from now on"
        log(WARNING, words, server_round, node.name, node.capacity, capacity, capacity)

    def _leave_out(self, server_round: int, name: str, reason: str) -> None:
        self.report.failed[name] = reason
        log(WARNING, "round %d: %s left out: %s", server_round, name, reason)

    def _new_arrays(self, mean: PartialMean, current: Mapping[str, NDArray]) -> ArrayRecord:
        new = dict(self.arrays)
        for name in mean.sums:
            old = current[name]
            value = mean.mean(name, old)
            if np.issubdtype(old.dtype, np.floating):
                value = self.step(name, old, self._noisy(value, mean, name))
            new[name] = packed(value)
        return ArrayRecord(new)

    def _noisy(self, value: NDArray, mean: PartialMean, name: str) -> NDArray:
        if not self.dp_noise_multiplier:
            return value
        clients = mean.trainers[name] if self.coverage == "trainers" else mean.clients
        deviation = self.dp_noise_multiplier * self.max_update_norm / clients
        noise = np.random.default_rng().normal(0.0, deviation, value.shape)  # never the same twice
        return np.asarray(value + noise).astype(value.dtype)

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return a tensor's new value, given its trainers' mean; optimizers do more than take it.

        Called only for floating tensors that somebody trained. What an optimizer remembers belongs
        in ``moments``, which checkpoints keep.
        """
        return mean

    def moment(self, kind: str, name: str, like: NDArray) -> NDArray:
        """Return a tensor's moment of a kind; zeros before its first step."""
        known = self.moments.setdefault(kind, {})
        return known[name] if name in known else np.zeros_like(like)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send nothing: clients evaluate what they receive before they train it."""
        return []


class _Fold:
    """One round's replies on their way into the sums: checked, weighed, bounded, added."""

    def __init__(self, strategy: PartialFedAvg, current: Mapping[str, NDArray]) -> None:
        self.strategy = strategy
        self.current = current
        self.mean = strategy.running_mean(current)
        self.spool = clipping.Spool() if math.isnan(strategy.max_update_norm) else None

    def add(
        self, reply: Message, capacity: int, sent: ArrayRecord | None
    ) -> tuple[MetricRecord, int]:
        """Check one reply and add it; nothing is added if anything is wrong with it.

        Returns its metrics, and the deepest exit that it trained something for (0: the front end).

        Raises
        ------
        BadReplyError
            Naming what is wrong.
        """
        if reply.has_error():
            raise BadReplyError(error_reason(reply))
        if sent is None:
            raise BadReplyError("found a reply to no message of this round")
        strategy, records = self.strategy, reply.content
        metrics = only_record(records.metric_records.values(), MetricRecord)
        examples = examples_of(metrics, strategy.weighted_by_key)
        weight = weight_of(strategy.weighting, metrics, examples, capacity)
        record = only_record(records.array_records.values(), ArrayRecord)
        arrays = checked_arrays(record, sent, strategy.wire_dtype)
        depth = strategy.depth(arrays, capacity)
        scales = None
        if strategy.wire_dtype != "float32":
            scales = checked_scales(records.config_records.values(), arrays, sent)
        if not strategy.max_update_norm:
            self.mean.add(arrays, weight, scales=scales)
            return metrics, depth
        norm, size = clipping.update_norm(arrays, self.current, scales)
        if self.spool is not None:
            self.spool.put(arrays, weight, scales, norm, size)
        else:
            factor = clipping.shrinking(norm, strategy.max_update_norm)
            self.mean.add(arrays, weight, factor, scales)
        return metrics, depth

    def result(self) -> PartialMean:
        """Return the sums of all that was added."""
        if self.spool is not None:
            for arrays, weight, factor, scales in self.spool.replies():
                self.mean.add(arrays, weight, factor, scales)
        return self.mean
