"""The display of a running simulation: rounds, error rates, time left."""

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from server_app.run_folder import line

SHOWN = 8  # rounds in the table, the latest ones


class LiveView:
    """A progress bar and a table of rounds on a terminal; one line a round elsewhere.

    ``seen`` are the rounds that a resumed run starts with; some of them may run again.
    """

    def __init__(self, rounds: int, seen: list[dict[str, Any]]) -> None:
        self.rounds = rounds
        self.seen = seen
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} rounds"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.task = self.progress.add_task("starting", total=rounds, left="")
        self.began = time.monotonic()
        self.live = Live(self._view(), console=self.console, refresh_per_second=4)

    def __enter__(self) -> "LiveView":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, records: list[dict[str, Any]]) -> None:
        """Show the rounds that are complete."""
        new = [record for record in records if record not in self.seen]
        if not new:
            return
        self.seen = records
        if not self.console.is_terminal:
            for record in new:
                print(line(record, self.rounds), flush=True)
            return
        last = records[-1]["train-seconds"] + records[-1]["evaluate-seconds"]
        left = (self.rounds - len(records)) * last
        self.progress.update(
            self.task,
            completed=len(records),
            description="training",
            left=f"about {left / 60:.1f} min left",
        )
        self.live.update(self._view())

    def _view(self) -> RenderableType:
        table = Table("round", "clients", "trainers per exit", "WER % per exit", "CER %", "seconds")
        for record in self.seen[-SHOWN:]:
            table.add_row(
                str(record["round"]),
                f"{record['answered']}/{record['sampled']}",
                " ".join(map(str, record["trainers-per-exit"])),
                " ".join(f"{100 * wer:.1f}" for wer in record["wer"]),
                " ".join(f"{100 * cer:.1f}" for cer in record["cer"]),
                f"{record['train-seconds'] + record['evaluate-seconds']:.1f}",
            )
        return Group(table, self.progress)
