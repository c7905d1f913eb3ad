"""The rounds of a run: configure, exchange, aggregate, evaluate, record."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from logging import INFO
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.evaluation import ExitScore
from efmodel.settings import Settings
from server_app import prometheus
from server_app.checkpoint import Checkpoint, Checkpoints
from server_app.run_folder import RunFolder, failures, line, read_metrics
from server_app.strategy.base import RunStrategy
from server_app.strategy.contract import checked_moments, sent_messages
from server_app.strategy.exchange import Traffic, exchange

Evaluate = Callable[[ArrayRecord], list[ExitScore]]


class RunFailedError(RuntimeError):
    """The run cannot continue."""


def nothing_trained(records: list[dict[str, Any]]) -> RunFailedError:
    """Return the error of a run whose last rounds, with these records, had no usable reply."""
    rounds = f"{len(records)} rounds" if len(records) > 1 else "1 round"
    return RunFailedError(f"no client could be used in {rounds} ({failures(records[-1])})")


@dataclass
class Rounds:
    """All rounds of a run."""

    grid: Grid
    strategy: RunStrategy
    settings: Settings
    folder: RunFolder
    checkpoints: Checkpoints
    evaluate: Evaluate
    request: ConfigRecord  # the model description that every message carries
    num_exits: int
    count_costs: Callable[[], list[float]]  # takes seconds, so not before the first clients train

    @cached_property
    def costs(self) -> list[float]:
        """Multiply-adds per second of audio, for a client of each capacity."""
        return self.count_costs()

    def run(self, arrays: ArrayRecord, after: int = 0) -> ArrayRecord:
        """Run the rounds after round ``after``, starting with ``arrays``; return the last model.

        Raises
        ------
        RunFailedError
            If no reply could be used in ``max-failed-rounds`` rounds in a row, or in any round.
        """
        failed = 0
        for server_round in range(after + 1, self.settings.rounds + 1):
            new_arrays, record = self._round(server_round, arrays)
            arrays = new_arrays or arrays
            failed = 0 if new_arrays else failed + 1
            self.folder.write_round(record)
            prometheus.write(self.folder, self.settings.rounds)
            self._checkpoint(server_round, arrays, record["wer"])
            log(INFO, "%s", line(record, self.settings.rounds))
            if failed == self.settings.max_failed_rounds:
                raise nothing_trained(read_metrics(self.folder.metrics)[-failed:])
        records = read_metrics(self.folder.metrics)  # of a resumed run, the earlier ones too
        if records and not any(record["answered"] for record in records):
            raise nothing_trained(records)
        return arrays

    def _checkpoint(self, server_round: int, arrays: ArrayRecord, wer: list[float]) -> None:
        self.checkpoints.save(
            Checkpoint(
                round=server_round,
                strategy=self.settings.strategy,
                arrays={name: array.numpy() for name, array in arrays.items()},
                moments=checked_moments(self.strategy, self.strategy.moments),
                nodes=list(self.strategy.nodes.met.values()),
                wer=wer,
            )
        )

    def _round(
        self, server_round: int, arrays: ArrayRecord
    ) -> tuple[ArrayRecord | None, dict[str, Any]]:
        start = time.monotonic()
        traffic = Traffic()
        configured = self.strategy.configure_train(
            server_round, arrays, ConfigRecord(dict(self.request)), self.grid
        )
        messages = sent_messages(self.strategy, configured)
        self.strategy.asked(messages)
        replies = exchange(self.grid, messages, self.settings.round_timeout, traffic)
        new_arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        trained = time.monotonic()
        scores: list[ExitScore] = []
        every = self.settings.evaluate_every
        if server_round % every == 0 or server_round == self.settings.rounds:
            scores = self.evaluate(new_arrays or arrays)
        record = self._record(server_round, traffic, metrics, scores, arrays)
        record["train-seconds"] = round(trained - start, 3)
        record["evaluate-seconds"] = round(time.monotonic() - trained, 3)
        return new_arrays, record

    def _record(
        self,
        server_round: int,
        traffic: Traffic,
        metrics: MetricRecord | None,
        scores: list[ExitScore],
        arrays: ArrayRecord,
    ) -> dict[str, Any]:
        report = self.strategy.report
        whole_model = sum(len(array.data) for array in arrays.values())
        return {
            "round": server_round,
            "sampled": traffic.sent,
            "answered": len(report.accepted),
            "failed": len(report.failed),
            "spare": len(report.spare),
            "failures": {**report.unmet, **report.failed},
            "capacities": report.sampled,
            "nodes": {name: asdict(client) for name, client in report.accepted.items()},
            "trainers-per-exit": report.trainers(self.num_exits),
            "multiply-adds": self.costs,
            "bytes-down": traffic.down,
            "bytes-up": traffic.up,
            # What the same cohort would cost if each client held the whole model.
            "bytes-down-full": whole_model * traffic.sent,
            "bytes-up-full": whole_model * len(report.accepted),
            "clients": dict(metrics) if metrics is not None else {},
            "loss": [score.loss for score in scores],
            "wer": [score.wer for score in scores],
            "cer": [score.cer for score in scores],
        }
