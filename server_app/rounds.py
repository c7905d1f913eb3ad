"""The rounds of a run: configure, exchange, aggregate, evaluate, write down."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from logging import INFO
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from efmodel.evaluation import ExitScore
from efmodel.settings import Settings
from server_app import prometheus
from server_app.checkpoint import Checkpoint, Checkpoints
from server_app.run_folder import RunFolder, line
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.round_report import RoundReport

Evaluate = Callable[[ArrayRecord], list[ExitScore]]


class RunFailedError(RuntimeError):
    """A run that cannot go on."""


@dataclass
class Rounds:
    """One run's rounds, whatever the strategy (any of Flower's kind)."""

    grid: Grid
    strategy: Strategy
    settings: Settings
    folder: RunFolder
    checkpoints: Checkpoints
    evaluate: Evaluate
    request: ConfigRecord  # what every message tells the clients
    num_exits: int
    costs: list[float]  # multiply-adds a second of audio, for a client of each capacity

    def run(self, arrays: ArrayRecord, after: int = 0) -> ArrayRecord:
        """Run all rounds that come ``after`` one, starting at ``arrays``; return the last model.

        Raises
        ------
        RunFailedError
            If no client's reply could be used in ``max-failed-rounds`` rounds in a row.
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
                reasons = "; ".join(f"{n}: {why}" for n, why in record["failures"].items())
                raise RunFailedError(f"no client could be used in {failed} rounds ({reasons})")
        return arrays

    def _checkpoint(self, server_round: int, arrays: ArrayRecord, wer: list[float]) -> None:
        nodes = getattr(self.strategy, "nodes", None)
        self.checkpoints.save(
            Checkpoint(
                round=server_round,
                strategy=self.settings.strategy,
                arrays={name: array.numpy() for name, array in arrays.items()},
                moments=getattr(self.strategy, "moments", {}),
                nodes=list(nodes.met.values()) if nodes else [],
                wer=wer,
            )
        )

    def _round(
        self, server_round: int, arrays: ArrayRecord
    ) -> tuple[ArrayRecord | None, dict[str, Any]]:
        began = time.monotonic()
        traffic = Traffic()
        messages = self.strategy.configure_train(
            server_round, arrays, ConfigRecord(dict(self.request)), self.grid
        )
        replies = exchange(self.grid, messages, self.settings.round_timeout, traffic)
        new_arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        trained = time.monotonic()
        scores: list[ExitScore] = []
        every = self.settings.evaluate_every
        if server_round % every == 0 or server_round == self.settings.rounds:
            scores = self.evaluate(new_arrays or arrays)
        record = self._record(server_round, traffic, metrics, scores, arrays)
        record["train-seconds"] = round(trained - began, 3)
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
        # A strategy that is not partial keeps no report: every node that answered trained it all.
        whole = sum(len(array.data) for array in arrays.values())
        report = getattr(self.strategy, "report", None)
        if report is None:
            answered, failed = traffic.answered, traffic.sent - traffic.answered
            report, trainers = RoundReport(), [traffic.answered] * self.num_exits
        else:
            answered, failed = len(report.accepted), len(report.failed)
            trainers = report.trainers(self.num_exits)
        return {
            "round": server_round,
            "sampled": traffic.sent,
            "answered": answered,
            "failed": failed,
            "spare": len(report.spare),
            "failures": {**report.unmet, **report.failed},
            "capacities": report.sampled,
            "nodes": {name: asdict(each) for name, each in report.accepted.items()},
            "trainers-per-exit": trainers,
            "multiply-adds": self.costs,
            "bytes-down": traffic.down,
            "bytes-up": traffic.up,
            # What the same cohort would have cost had each client held the whole model.
            "bytes-down-full": whole * traffic.sent,
            "bytes-up-full": whole * answered,
            "clients": dict(metrics) if metrics is not None else {},
            "loss": [score.loss for score in scores],
            "wer": [score.wer for score in scores],
            "cer": [score.cer for score in scores],
        }
