"""The rounds of a run: configure, exchange, aggregate; then evaluate and record.

A round's evaluation, its line in ``metrics.jsonl`` and its checkpoint are made while the next round
trains.
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from logging import ERROR, INFO
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid

from efmodel.evaluation import ExitScore
from efmodel.settings import Settings
from server_app import prometheus, trackers
from server_app.background import Background, SpareCores
from server_app.checkpoint import Checkpoint, Checkpoints
from server_app.privacy import Privacy
from server_app.run_folder import RunFolder, failures, has_stalled, line, read_metrics
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
    count_costs: Callable[[], list[float]]  # takes a second: not before a client trains
    cores: SpareCores = field(default_factory=SpareCores)
    track: trackers.Track = lambda values, server_round: None
    privacy: Privacy = field(default_factory=Privacy)

    @cached_property
    def costs(self) -> list[float]:
        """Multiply-adds per second of audio, for a client of each capacity."""
        return self.count_costs()

    def run(self, arrays: ArrayRecord, after: int = 0) -> ArrayRecord:
        """Run the rounds after round ``after``, starting with ``arrays``; return the result.

        Raises
        ------
        RunFailedError
            If no reply could be used in ``max-failed-rounds`` rounds in a row, or in any round.
        """
        failed = 0
        with closing(Background()) as background:
            if unscored := self._unscored(after):
                scored = self.strategy.result(arrays)
                background.start(partial(self._end, background, unscored, scored))
            for server_round in range(after + 1, self.settings.rounds + 1):
                if self._has_stalled(background):
                    log(INFO, "round %d: stopped, no evaluation was better in patience = %d",
                        server_round - 1, self.settings.patience)  # fmt: skip
                    break
                new_arrays, record = self._round(server_round, arrays)
                arrays = new_arrays or arrays
                failed = 0 if new_arrays else failed + 1
                checkpoint = self._checkpoint(record, arrays)
                scored = self.strategy.result(arrays)
                background.start(partial(self._end, background, checkpoint, scored))
                if failed == self.settings.max_failed_rounds:
                    background.wait()
                    raise nothing_trained(read_metrics(self.folder.metrics)[-failed:])
            background.wait()
        records = read_metrics(self.folder.metrics)  # of a resumed run, the earlier ones too
        if records and not any(record["answered"] for record in records):
            raise nothing_trained(records)
        return self._best() or self.strategy.result(arrays)

    def _has_stalled(self, background: Background) -> bool:
        """Return whether to stop; a round that is being evaluated is waited for only then."""
        patience = self.settings.patience
        if not (patience and has_stalled(read_metrics(self.folder.metrics), patience)):
            return False
        background.wait()
        return has_stalled(read_metrics(self.folder.metrics), patience)

    def _best(self) -> ArrayRecord | None:
        """Return the result of the best round that was evaluated; None without ``patience``."""
        checkpoint = self.checkpoints.load_best() if self.settings.patience else None
        if checkpoint is None:
            return None
        log(INFO, "result: round %d, which has the lowest WER", checkpoint.round)
        self.strategy.restore(checkpoint.moments, self.strategy.nodes.met.values())
        arrays = {name: Array(values) for name, values in checkpoint.arrays.items()}
        return self.strategy.result(ArrayRecord(arrays))

    def _unscored(self, server_round: int) -> Checkpoint | None:
        """Return the checkpoint of a round after which the run was stopped before it was scored."""
        written = [record["round"] for record in read_metrics(self.folder.metrics)]
        if server_round == 0 or server_round in written:
            return None
        checkpoint = self.checkpoints.latest()
        return checkpoint if checkpoint and checkpoint.record else None

    def _end(self, background: Background, checkpoint: Checkpoint, arrays: ArrayRecord) -> None:
        """End a round, while the next one trains: save, evaluate ``arrays``, and write it down."""
        server_round, record = checkpoint.round, dict(checkpoint.record)
        try:
            self.checkpoints.save(checkpoint)
            every, last = self.settings.evaluate_every, self.settings.rounds
            scores: list[ExitScore] = []
            if server_round % every == 0 or server_round == last:
                scores = self.evaluate(arrays)
            record["loss"] = [score.loss for score in scores]
            record["wer"] = [score.wer for score in scores]
            record["cer"] = [score.cer for score in scores]
            record["evaluate-seconds"] = round(background.waited_for(), 3)
            self.folder.write_round(record)
            prometheus.write(self.folder, last)
            self.track(trackers.numbers(record), server_round)
            if scores:
                self.checkpoints.score(server_round, record["wer"])
            log(INFO, "%s", line(record, last))
        except Exception as error:  # the run fails with it, but maybe only after the next round
            log(ERROR, "round %d: evaluation failed: %s", server_round, error)
            raise

    def _checkpoint(self, record: dict[str, Any], arrays: ArrayRecord) -> Checkpoint:
        """Return the run as it is after a round; the next one changes none of it."""
        moments = checked_moments(self.strategy, self.strategy.moments)
        return Checkpoint(
            round=record["round"],
            strategy=self.settings.strategy,
            arrays={name: array.numpy() for name, array in arrays.items()},
            moments={
                kind: {name: array.copy() for name, array in tensors.items()}
                for kind, tensors in moments.items()
            },
            nodes=list(self.strategy.nodes.met.values()),
            record=record,
        )

    def _round(
        self, server_round: int, arrays: ArrayRecord
    ) -> tuple[ArrayRecord | None, dict[str, Any]]:
        start = time.monotonic()
        self.privacy.spend()
        self.folder.write_privacy(self.privacy.ledger())
        traffic = self.cores.traffic = Traffic()
        configured = self.strategy.configure_train(
            server_round, arrays, ConfigRecord(dict(self.request)), self.grid
        )
        messages = sent_messages(self.strategy, configured)
        self.strategy.asked(messages)
        with closing(self._replies(messages, traffic)) as replies:
            new_arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        record = self._record(server_round, traffic, metrics, arrays)
        record["train-seconds"] = round(time.monotonic() - start, 3)
        return new_arrays, record

    def _replies(self, messages: list[Message], traffic: Traffic) -> Generator[Message]:
        """Yield the replies to the messages, then those to the messages that follow them."""
        timeout = self.settings.round_timeout
        while messages:
            with closing(exchange(self.grid, messages, timeout, traffic)) as replies:
                yield from replies
            messages = self.strategy.next_messages()

    def _record(
        self,
        server_round: int,
        traffic: Traffic,
        metrics: MetricRecord | None,
        arrays: ArrayRecord,
    ) -> dict[str, Any]:
        """Return what is known of a round before its model is evaluated."""
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
            "bytes-down": traffic.down + report.bytes_down,
            "bytes-up": traffic.up + report.bytes_up,
            # What the same cohort would cost if each client held the whole model.
            "bytes-down-full": whole_model * traffic.sent,
            "bytes-up-full": whole_model * len(report.accepted),
            "clients": dict(metrics) if metrics is not None else {},
            "privacy": self.privacy.statement(),
            # Not in the background: it draws random numbers, as a client in this process may.
            "multiply-adds": self.costs,
        }
