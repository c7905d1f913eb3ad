"""FedAvg for models that are cut: each tensor is the mean over the clients that hold it."""

from collections.abc import Iterable, Mapping
from logging import INFO, WARNING
from typing import Any

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from server_app.strategy import exit_metrics, validation
from server_app.strategy.nodes import Node, Nodes
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.round_report import RoundReport

WEIGHTINGS = ("examples", "uniform")


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
        A client's weight: its ``num-examples``, or ("uniform") 1.
    seed : int (default: 0)
        Decides each round's cohort.
    node_timeout : float (default: 3600)
        Seconds to wait for enough nodes, and for their answers to a query.
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
        **fedavg: Any,
    ) -> None:
        super().__init__(**{"train_metrics_aggr_fn": exit_metrics.aggregate, **fedavg})
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: found {weighting!r}, wanted one of {WEIGHTINGS}")
        PartialMean(coverage)  # says now what is wrong with it
        self.owner_exits = dict(owner_exits)
        self.num_exits = max(self.owner_exits.values())
        self.coverage = coverage
        self.weighting = weighting
        self.seed = seed
        self.node_timeout = node_timeout
        self.nodes = Nodes(self.num_exits, query_timeout=node_timeout)
        self.report = RoundReport()
        self.arrays = ArrayRecord()
        self._messages: list[Message] = []
        self._cohort: dict[int, Node] = {}

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
        ids = self.nodes.wait_for(grid, self.min_available_nodes, self.node_timeout)
        self.report.unmet = self.nodes.meet(grid, ids, config)
        size = max(int(len(ids) * self.fraction_train), self.min_train_nodes)
        cohort = self.nodes.sample(ids, size, f"{self.seed} {server_round}")
        self._cohort = {node.id: node for node in cohort}
        self.report.sampled = {node.name: node.capacity for node in cohort}
        contents = {
            capacity: self._content(server_round, capacity, config)
            for capacity in {node.capacity for node in cohort}
        }
        self._messages = [
            Message(contents[node.capacity], dst_node_id=node.id, message_type=MessageType.TRAIN)
            for node in cohort
        ]
        return self._messages

    def prefix(self, capacity: int) -> ArrayRecord:
        """Return the tensors that a client of that capacity holds."""
        return ArrayRecord(
            {n: array for n, array in self.arrays.items() if self.owner_exits[n] <= capacity}
        )

    def _content(self, server_round: int, capacity: int, config: ConfigRecord) -> RecordDict:
        request = ConfigRecord(
            {**config, "server-round": server_round, "capacity": capacity},
        )
        return RecordDict(
            {self.arrayrecord_key: self.prefix(capacity), self.configrecord_key: request}
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold each reply into running sums as it comes, drop it, and return the new model.

        ``replies`` is consumed once. A reply that is an error, or not what it should be, is left
        out, named in the log and in ``report``, and the round goes on. Returns None where no reply
        was accepted.
        """
        asked = {m.metadata.message_id: m.metadata.dst_node_id for m in self._messages}
        mean = PartialMean(self.coverage)
        kept: list[RecordDict] = []  # metrics only: a few numbers a client
        for reply in replies:
            # The error reply for a lost node comes from the SuperLink: the message it answers
            # tells whose it is.
            id = asked.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)
            node = self._cohort.get(id, Node(id, str(id), 0))
            try:
                metrics = self._fold(reply, node, mean)
            except validation.BadReplyError as error:
                self.report.failed[node.name] = str(error)
                log(WARNING, "round %d: %s left out: %s", server_round, node.name, error)
                continue
            kept.append(RecordDict({"metrics": metrics}))
            self.report.accepted[node.name] = node.capacity
        heard = self.report.accepted.keys() | self.report.failed.keys()
        for name in self.report.sampled.keys() - heard:
            self.report.failed[name] = "no reply in time"
            log(WARNING, "round %d: %s left out: no reply in time", server_round, name)
        if not kept:
            return None, None
        return self._new_arrays(mean), self.train_metrics_aggr_fn(kept, self.weighted_by_key)

    def _fold(self, reply: Message, node: Node, mean: PartialMean) -> MetricRecord:
        """Check one reply and add it to the sums; nothing is added if anything is wrong."""
        if reply.has_error():
            raise validation.BadReplyError(validation.error_reason(reply))
        if node.id not in self._cohort or node.name in self.report.accepted:
            raise validation.BadReplyError("found a reply that was not asked for")
        records = reply.content
        arrays = validation.only_record(records.array_records.values(), ArrayRecord)
        metrics = validation.only_record(records.metric_records.values(), MetricRecord)
        examples = validation.number(metrics, self.weighted_by_key)
        tensors = validation.checked_arrays(arrays, self.prefix(node.capacity))
        mean.add(tensors, examples if self.weighting == "examples" else 1.0)
        return metrics

    def _new_arrays(self, mean: PartialMean) -> ArrayRecord:
        return ArrayRecord(
            {
                name: Array(mean.mean(name, array.numpy())) if name in mean.sums else array
                for name, array in self.arrays.items()
            }
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send nothing: clients evaluate what they receive before they train it."""
        return []
