"""Adapter: any strategy that sends whole models, such as Flower's own, as a strategy of a run."""

from collections.abc import Iterable, Iterator, Mapping
from logging import WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import NDArray, log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from efmodel.settings import Settings, SettingsError
from server_app.strategy.base import RunStrategy
from server_app.strategy.cohort import Cohort, Nodes
from server_app.strategy.contract import sent_messages
from server_app.strategy.exchange import tensor_bytes
from server_app.strategy.node import Node
from server_app.strategy.reply import error_reason
from server_app.strategy.round_report import Contribution, RoundReport


class WholeModel(RunStrategy):
    """Runs a strategy of Flower's kind, counts its replies, and checks that all nodes are strong.

    Its state is unknown, so ``moments`` stays empty and a resumed run starts its state afresh.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    settings : Settings
        Its name, ``min_nodes`` and ``round_timeout`` are used.
    num_exits : int
        Exits of the model: the capacity that every node needs.
    """

    def __init__(self, strategy: Strategy, settings: Settings, num_exits: int) -> None:
        self.strategy = strategy
        self.name = settings.strategy
        self.num_exits = num_exits
        self.min_nodes = settings.min_nodes
        self.nodes = Nodes(num_exits, settings.round_timeout, lambda node: True)
        self.report = RoundReport()
        self.moments = {}
        self._cohort = Cohort({}, 0)

    def check_nodes(self, grid: Grid, request: ConfigRecord) -> None:
        """Check that every node can train the whole model.

        Raises
        ------
        SettingsError
            Naming nodes that cannot.
        """
        ready, _ = self.nodes.gather(grid, self.min_nodes, request)
        weak = [
            f"{node.name} (capacity {node.capacity})"
            for node in ready
            if node.capacity < self.num_exits
        ]
        if weak:
            raise SettingsError(
                f"strategy: {self.name} sends whole models, but found {len(weak)} nodes that "
                f"cannot train one: {', '.join(weak[:3])} ...; wanted capacity {self.num_exits} "
                "on every node (capacities=full), or a partial strategy"
            )

    def restore(self, moments: Mapping[str, Mapping[str, NDArray]], nodes: Iterable[Node]) -> None:
        """Keep the nodes only: a checkpoint has no state of the adapted strategy."""
        super().restore({}, nodes)
        log(WARNING, "resume: the state of %s is not in checkpoints, it starts afresh", self.name)

    def summary(self) -> None:
        """Log what is about to run."""
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the adapted strategy's messages."""
        configured = self.strategy.configure_train(server_round, arrays, config, grid)
        messages = sent_messages(self.strategy, configured)
        self._cohort = Cohort({self._node(m): m for m in messages}, len(messages))
        self.report = RoundReport(server_round)
        self.report.sampled = {node.name: node.capacity for node in self._cohort.messages}
        return messages

    def _node(self, message: Message) -> Node:
        id = message.metadata.dst_node_id
        return self.nodes.met.get(id, Node(id, str(id), self.num_exits))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return what the adapted strategy makes of the replies."""
        result = self.strategy.aggregate_train(server_round, list(self._counted(replies)))
        self.report.close(wanted=len(self.report.sampled))
        return result

    def _counted(self, replies: Iterable[Message]) -> Iterator[Message]:
        """Yield the replies and note each one in the report."""
        for reply in replies:
            node = self._cohort.sender(reply)
            if reply.has_error():
                self.report.leave_out(node.name, error_reason(reply))
            else:
                metrics = next(iter(reply.content.metric_records.values()), MetricRecord())
                sent = self._cohort.bytes_sent.get(node, 0)
                self.report.accepted[node.name] = Contribution.of(
                    self.num_exits, sent, tensor_bytes(reply), metrics
                )
            yield reply

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the adapted strategy's messages."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return what the adapted strategy makes of the replies."""
        return self.strategy.aggregate_evaluate(server_round, replies)
