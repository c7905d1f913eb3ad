"""FedAvg for models that are cut: each tensor is the mean over the clients that hold it."""

from collections.abc import Iterable, Mapping
from functools import cache
from logging import INFO
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import NDArray, log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from efmodel.protocol import CAPACITY, METRICS, SECOND_MOMENTS
from server_app.strategy import averaging, clipping, contract, exit_metrics
from server_app.strategy.arrays import packed, view
from server_app.strategy.base import RunStrategy
from server_app.strategy.cohort import Cohort, FrozenTensors, Nodes, draw, flip_coins
from server_app.strategy.combinations import allow_only
from server_app.strategy.exchange import tensor_bytes
from server_app.strategy.fold import Fold
from server_app.strategy.masked_sum import MaskedSum
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.relay import Relay
from server_app.strategy.reply import BadReplyError, ClientUpdate, UpdateReader
from server_app.strategy.requests import Requests
from server_app.strategy.round_report import Contribution, RoundReport
from server_app.strategy.secure import SecureAggregation
from server_app.strategy.selection import selector


class PartialFedAvg(RunStrategy, FedAvg):
    """Partial aggregation (arXiv 2405.17376); a Flower strategy for any model that can be cut.

    A node of capacity c is sent, and returns, the tensors with an owner exit of at most c.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        ``{tensor name: shallowest exit that needs it}``; 0 for tensors that every client needs.
    coverage : str (default: "trainers")
        Divide by the weight of a tensor's trainers, or ("cohort") of all accepted clients.
    shrinkage : float (default: 0)
        Weight of the old value in each mean, in clients; see ``PartialMean``.
    average_rounds : int (default: 1)
        The model that is evaluated and saved is the mean over about so many rounds, see
        ``averaging.include``.
    weighting : str (default: "examples")
        How a client's weight is computed, see ``efmodel.weighting``.
    client_moments : str (default: "fresh")
        The clients' AdamW starts from nothing in each round, or ("server") from the mean of the
        second moments that their AdamW ended with, see ``client_app.optimizer``. Of each tensor it
        is the mean over its trainers of the last round in which it had any.
    relay : int (default: 1)
        Train in chains of so many clients, each from the model that the one before it sent, see
        ``relay.Relay``. A run's rounds ask for the messages of the later ones; Flower's own
        ``start`` does not.
    seed : int (default: 0)
        Decides each round's cohort.
    node_timeout : float (default: 3600)
        Seconds to wait for enough nodes, and for their answers to a query.
    select : str (default: "")
        Which nodes may train, such as "capacity>=2" or "tag=kitchen"; empty for all.
    over_sample : float (default: 1)
        Nodes asked for each reply that is wanted; the first replies close the round.
    wire_dtype : str (default: "float32")
        How tensors travel, see ``efmodel.wire``.
    max_update_norm : str (default: "off")
        L2 norm to which a client's change is clipped: a number, or "auto" for the median over the
        cohort, of norms per square root of values; replies are on disk until the last has come.
    clip_by : str (default: "update")
        Clip a change as a whole, or each "tensor" of it, see ``clipping.Bound``.
    dp_noise_multiplier : float (default: 0)
        Central differential privacy: standard deviation, in units of ``max_update_norm``, of the
        noise on each tensor's *sum* of changes; its mean divides both by the number of trainers.
    dp_sampling : str (default: "fixed")
        Draw a cohort of a fixed size, or ("poisson") each node with probability ``fraction_train``.
        A tensor's sum is then divided by the number of trainers that is *expected*, and gets its
        noise whoever was drawn.
    frozen : Iterable[str] (default: none)
        Names of tensors that nobody trains: a node is sent them once and keeps them.
    secure_aggregation : bool (default: False)
        Let clients mask their changes, so that only sums over clients are known; clipping is then
        left to them. See ``secure.SecureAggregation``, also for the next two.
    secagg_min_trainers : int (default: 3)
        With secure aggregation, tensors that fewer clients trained keep their values.
    secagg_max_weight : float (default: 1000)
        With secure aggregation, the largest weight of a client.
    **fedavg : Any
        Arguments of Flower's FedAvg, such as ``fraction_train`` and ``min_train_nodes``.
    """

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        coverage: str = "trainers",
        shrinkage: float = 0.0,
        average_rounds: int = 1,
        weighting: str = "examples",
        client_moments: str = "fresh",
        relay: int = 1,
        seed: int = 0,
        node_timeout: float = 3600.0,
        select: str = "",
        over_sample: float = 1.0,
        wire_dtype: str = "float32",
        max_update_norm: str = "off",
        clip_by: str = "update",
        dp_noise_multiplier: float = 0.0,
        dp_sampling: str = "fixed",
        frozen: Iterable[str] = (),
        secure_aggregation: bool = False,
        secagg_min_trainers: int = 3,
        secagg_max_weight: float = 1000.0,
        **fedavg: Any,
    ) -> None:
        super().__init__(**{"train_metrics_aggr_fn": exit_metrics.aggregate, **fedavg})
        PartialMean(coverage)  # raises now if there is no such coverage
        self.owner_exits = dict(owner_exits)
        self.num_exits = max(self.owner_exits.values())
        self.coverage, self.shrinkage, self.average_rounds = coverage, shrinkage, average_rounds
        self.weighting, self.wire_dtype = weighting, wire_dtype
        self.seed, self.over_sample = seed, over_sample
        self.frozen = frozenset(frozen)
        self.relay = relay
        if relay > 1:
            allow_only(
                {
                    "secure-aggregation": (secure_aggregation, False),
                    "dp-noise-multiplier": (dp_noise_multiplier, 0.0),
                    "max-update-norm": (max_update_norm, "off"),
                    "dp-sampling": (dp_sampling, "fixed"),
                    "over-sample": (over_sample, 1.0),
                    "client-moments": (client_moments, "fresh"),
                },
                "with relay: the next client in a chain starts from one client's model, and the "
                "server averages chains",
            )
        parts = len(self.owner_exits.keys() - self.frozen) if clip_by == "tensor" else 0
        self.bound = clipping.Bound.parsed(max_update_norm, parts)
        self.noise = clipping.noise(dp_noise_multiplier, self.bound.norm, weighting)
        self.client_moments = client_moments
        if client_moments == "server" and (secure_aggregation or self.noise):
            key = "secure-aggregation" if secure_aggregation else "dp-noise-multiplier"
            why = "second moments would travel without masks and noise"
            raise ValueError(f"client-moments: found 'server', wanted fresh with {key}: {why}")
        self.poisson = dp_sampling == "poisson"
        if self.poisson and weighting != "uniform":
            why = "dp-sampling = poisson divides by the number of trainers on average"
            raise ValueError(f"weighting: found {weighting!r}, wanted uniform: {why}")
        if self.poisson and over_sample != 1:
            why = "dp-sampling = poisson waits for all that it drew"
            raise ValueError(f"over-sample: found {over_sample}, wanted 1: {why}")
        self._reader = UpdateReader(self.weighted_by_key, weighting, wire_dtype)
        self.nodes = Nodes(self.num_exits, node_timeout, selector(select))
        self.report, self.moments = RoundReport(), {}
        self.arrays = ArrayRecord()  # this round's model
        keys = self.arrayrecord_key, self.configrecord_key
        self.requests = Requests(self.owner_exits, wire_dtype, FrozenTensors(self.frozen), keys)
        self._cohort = Cohort({}, 0)
        self._relay: Relay | None = None  # this round's chains
        self._expected: dict[str, float] = {}  # each tensor's trainers on average; poisson only
        self.secure: SecureAggregation | None = None
        if secure_aggregation:
            self.secure = SecureAggregation(
                self.owner_exits, weighting, self.bound, wire_dtype, dp_sampling,
                secagg_min_trainers, secagg_max_weight, node_timeout,
            )  # fmt: skip

    def summary(self) -> None:
        """Log what is about to run."""
        log(INFO, "\t├──> Partial aggregation over %d exits:", self.num_exits)
        log(INFO, "\t│\t├── Coverage: %s", self.coverage)
        log(INFO, "\t│\t├── Shrinkage: %g clients", self.shrinkage)
        log(INFO, "\t│\t├── Rounds in the result's mean: %d", self.average_rounds)
        log(INFO, "\t│\t├── Clients in a chain: %d", self.relay)
        log(INFO, "\t│\t├── Clients' second moments: %s", self.client_moments)
        log(INFO, "\t│\t├── Secure aggregation: %s", "on" if self.secure else "off")
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
        if names := self.owner_exits.keys() ^ arrays.keys():
            raise ValueError(f"owner_exits and arrays differ in {sorted(names)[:3]}")
        self.report, self.arrays = RoundReport(server_round), arrays
        self.requests.start_round(server_round, arrays, config)
        if self.client_moments == "server":
            self.requests.second_moments = self.moments.setdefault(SECOND_MOMENTS, {})
        ready, self.report.unmet = self.nodes.gather(grid, self.min_available_nodes, config)
        if self.poisson:
            nodes = flip_coins(ready, self.fraction_train)
            wanted, self._expected = len(nodes), self._expected_trainers(ready)
        else:
            wanted = max(int(len(ready) * self.fraction_train), self.min_train_nodes)
            nodes = draw(ready, wanted, self.over_sample, f"{self.seed} {server_round}")
        if self.secure:
            nodes = self.secure.agree(grid, server_round, nodes, self.report)
            self.requests.config.update(self.secure.request(self.requests.trained(self.num_exits)))
        if self.relay > 1:
            current = {name: view(array) for name, array in arrays.items()}
            self._relay = Relay(nodes, self.relay, current, self.running_mean(current))
            self._cohort = Cohort({}, 0)
            return self.next_messages()
        self.report.sampled = {node.name: node.capacity for node in nodes}
        self._cohort = Cohort(self.requests.messages(nodes), wanted)
        return list(self._cohort.messages.values())

    def next_messages(self) -> list[Message]:
        """Return the messages to the next client of each chain; none without a relay."""
        if self._relay is None:
            return []
        messages = self._relay.next_messages(self.requests)
        self._cohort.extend(messages)
        self.report.sampled |= {node.name: node.capacity for node in messages}
        return list(messages.values())

    def _expected_trainers(self, ready: list[Node]) -> dict[str, float]:
        """Return how many trainers each tensor has on average, if they are drawn from these."""
        counts = {}
        for name in self.owner_exits.keys() - self.frozen:
            least = self.owner_exits[name] if self.coverage == "trainers" else 0
            counts[name] = sum(node.capacity >= least for node in ready)
        return {name: self.fraction_train * count for name, count in counts.items() if count}

    def asked(self, messages: list[Message]) -> None:
        """Leave out of the round whom a subclass leaves out, and expect the messages it made."""
        self._cohort = self._cohort.sending(messages, self.nodes.met)
        self.report.sampled = {node.name: node.capacity for node in self._cohort.messages}

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add each reply to running sums as it comes, drop it, and return the new model.

        ``replies`` is read once, until enough have come. A reply that is an error, or that cannot
        be aggregated, is left out and named in the log and in ``report``; the round goes on.
        Returns None where no reply was accepted, unless the cohort is drawn by coins: then the
        model changes by the noise alone.
        """
        current = {name: view(array) for name, array in self.arrays.items()}
        fold = self._fold(current)
        second_moments = PartialMean("trainers")
        wanted = cache(self._wanted)
        kept: list[RecordDict] = []  # metrics only: a few numbers a client
        for reply in replies:
            node = self._cohort.sender(reply)
            try:
                if node.name in self.report.accepted:
                    raise BadReplyError("found a second reply of the same node")
                update = self._reader.read(reply, wanted(node.capacity), node.capacity)
                fold.add(update)
                second_moments.add(update.second_moments, update.weight)
            except BadReplyError as error:
                self.report.leave_out(node.name, str(error))
                self.requests.frozen.lost_by(node)
                if reply.has_error():  # a device that ran out of memory has lowered its capacity
                    self.nodes.forget(node.id)
                continue
            self._accept(node, update, tensor_bytes(reply))
            kept.append(RecordDict({METRICS: update.metrics}))
            if self.over_sample > 1 and len(kept) == self._cohort.wanted:
                break
        self.report.close(self._cohort.wanted)
        if not (kept or (self.poisson and self.noise)):
            return None, None
        mean, self._relay = fold.result(), None
        if self.secure and not mean.weights:  # what was accepted stays masked
            return None, None
        if self.client_moments == "server":
            self._keep(second_moments)
        metrics = self.train_metrics_aggr_fn(kept, self.weighted_by_key) if kept else MetricRecord()
        return self._new_arrays(mean, current), metrics

    def _fold(self, current: Mapping[str, NDArray]) -> Fold | MaskedSum | Relay:
        """Return what the round's replies are added to."""
        if self._relay:
            return self._relay
        mean = self.running_mean(current)
        return self.secure.sum(mean) if self.secure else Fold(mean, current, self.bound)

    def _keep(self, second_moments: PartialMean) -> None:
        """Keep the mean second moments of the tensors that the round's clients trained."""
        kept = self.moments.setdefault(SECOND_MOMENTS, {})
        for name in second_moments.weights:
            kept[name] = second_moments.mean(name, np.zeros(1, np.float32))

    def _wanted(self, capacity: int) -> ArrayRecord | None:
        """Return tensors of the names, types and shapes that a client of that capacity returns.

        None for capacity 0, which a node has that was not asked.
        """
        if not capacity:
            return None
        trained = self.requests.trained(capacity)
        return self.secure.masked(capacity, trained) if self.secure else trained

    def running_mean(self, current: Mapping[str, NDArray]) -> PartialMean:
        """Return the empty sums that a round's replies are added to."""
        return PartialMean(self.coverage, self.shrinkage, self._expected)

    def depth(self, trained: Iterable[str], capacity: int) -> int:
        """Return the deepest exit that a client of that capacity trained, by its tensors' names."""
        return max(self.owner_exits[name] for name in trained)

    def _accept(self, node: Node, update: ClientUpdate, bytes_up: int) -> None:
        """Report an added reply, and note what it tells about its node."""
        depth = node.capacity if self.secure else self.depth(update.arrays, node.capacity)
        self.report.accepted[node.name] = Contribution.of(
            depth, self._cohort.bytes_sent[node], bytes_up, update.metrics
        )
        self.requests.frozen.received_by(node)
        self.nodes.update(node, depth, update.metrics.get(CAPACITY, node.capacity))

    def _new_arrays(self, mean: PartialMean, current: Mapping[str, NDArray]) -> ArrayRecord:
        new = dict(self.arrays)
        for name in self._changing(mean):
            old = current[name]
            value = mean.mean(name, old)
            if np.issubdtype(old.dtype, np.floating):
                value = clipping.noisy(value, self.noise / mean.divisor(name))
                value = contract.new_value(self, name, self.step(name, old, value), old)
                if self.average_rounds > 1:
                    averaging.include(self.moments, name, value, self.average_rounds)
            elif self.noise:
                continue  # whole numbers are not clipped, so no noise would hide one client's
            new[name] = packed(value)
        return ArrayRecord(new)

    def _changing(self, mean: PartialMean) -> Iterable[str]:
        """Return the tensors that get a new value: those with trainers.

        With noise on a cohort that was drawn by coins it is all that some node could train, since
        a tensor that stays as it is would say that none of its trainers was drawn.
        """
        return self._expected if self.poisson and self.noise else mean.weights

    def step(self, name: str, current: NDArray, mean: NDArray) -> NDArray:
        """Return a tensor's new value, given the mean over its trainers.

        Server optimizers override it. It is called only for floating tensors that have trainers.
        What it returns is cast to the type of ``current``. What an optimizer remembers belongs in
        ``moments``, which checkpoints keep.
        """
        return mean

    def result(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return the mean of about ``average_rounds`` models, the last of which is ``arrays``."""
        return averaging.averaged(self.moments, arrays)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send nothing: clients evaluate the model that they receive before they train it."""
        return []
