"""``ef-asr sweep``: run an experiment, several runs at a time, and compare them."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from efmodel.errors import UserError, show, shown_errors
from simulation import interrupts
from simulation.simulate import Override

if TYPE_CHECKING:
    from simulation.sweep import PlannedRun

POLL = 0.5  # seconds between checks of the runs


def sweep(
    file: Annotated[Path, typer.Argument(help="Methods, seeds and options; TOML.")],
    data: Annotated[
        str | None, typer.Option(help="A folder of recordings, or a corpus by name.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the runs; by default runs/NAME-OF-FILE.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at the same time; by default one per core."),
    ] = None,
    overrides: Override = None,
) -> None:
    """Run an experiment, then compare its runs. The same command resumes it.

    The last line is the page that compares the runs.
    """
    from efmodel.speech import corpus
    from simulation.run_config import overridden
    from simulation.sweep import plan

    folder = output or Path("runs") / file.stem
    with shown_errors(ValueError):  # also a file in a run folder that is not JSON
        config = overridden(overrides or [])
        if data is not None:
            copy = config.get("data-path", "")
            config["data"], config["data-path"] = corpus.named(data, copy)
        runs = plan(file, folder, config)
        for run in runs:
            run.prepare()
        cores = sorted(os.sched_getaffinity(0))
        queue = Queue(runs, _shares(cores, jobs or len(cores)))
    failed = queue.work()
    done = [run.folder for run in runs if run.is_done()]
    if done:
        with shown_errors(status=1):
            print(_compared(done, folder))
    raise typer.Exit(1 if failed else 0)


def _compared(runs: list[Path], folder: Path) -> Path:
    """Write the page that compares the runs.

    Raises
    ------
    UserError
        If a run cannot be read.
    """
    from server_app.results.page import write_comparison  # imports that the runs need not wait for

    try:
        return write_comparison(runs, folder)
    except ValueError as error:
        message = f"the runs are in {folder}, but their comparison failed: {error}"
        raise UserError(message) from None


def _shares(cores: list[int], jobs: int) -> list[set[int]]:
    """Divide the cores among this many runs, each with at least one core."""
    jobs = max(1, min(jobs, len(cores)))
    return [set(cores[number::jobs]) for number in range(jobs)]


class Queue:
    """The runs that wait, and those under way, one on each share of the cores.

    A run with few clients does not keep several cores busy; several runs do.
    """

    def __init__(self, runs: list["PlannedRun"], shares: list[set[int]]) -> None:
        self.waiting = [run for run in runs if not run.is_done()]
        self.total = len(runs)
        self.skipped = self.total - len(self.waiting)
        self.free = shares
        self.running: dict[subprocess.Popen[bytes], tuple[PlannedRun, set[int], TaskID]] = {}
        self.failed: list[PlannedRun] = []
        self.ended = 0
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )

    def work(self) -> list["PlannedRun"]:
        """Run all that wait, and return those that failed. Ctrl-C stops the runs under way."""
        print(f"runs: {self.total}; done: {self.skipped}; at a time: {len(self.free)}", flush=True)
        self.progress.disable = not self.progress.console.is_terminal
        interrupts.stop_on_signals()  # they stop all runs
        try:
            with self.progress:
                while self.waiting or self.running:
                    while self.waiting and self.free:
                        self._start(self.waiting.pop(0), self.free.pop())
                    time.sleep(POLL)
                    self._update()
        except KeyboardInterrupt:
            for process in self.running:
                process.terminate()
            for process in self.running:
                process.wait()
            typer.secho("interrupted: the same command resumes", fg="yellow", err=True)
            raise typer.Exit(130) from None
        return self.failed

    def _start(self, run: "PlannedRun", cores: set[int]) -> None:
        program = str(Path(sys.executable).parent / "ef-asr")
        all_cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # a process starts on its parent's cores
        try:
            with (run.folder / "sweep.log").open("ab") as log:
                process = subprocess.Popen(
                    [program, *run.command()], stdout=log, stderr=log, start_new_session=True
                )
        finally:
            os.sched_setaffinity(0, all_cores)
        task = self.progress.add_task(run.name, total=run.config["rounds"])
        self.running[process] = (run, cores, task)

    def _update(self) -> None:
        for process, (run, _, task) in list(self.running.items()):
            self.progress.update(task, completed=run.rounds_done())
            if process.poll() is not None:
                self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        run, cores, task = self.running.pop(process)
        self.free.append(cores)
        self.ended += 1
        minutes = (self.progress.tasks[self.progress.task_ids.index(task)].elapsed or 0.0) / 60
        self.progress.remove_task(task)
        count = f"{self.skipped + self.ended}/{self.total} {run.name}"
        if process.returncode == 0:
            print(f"{count}: {_rates(run)}, {minutes:.1f} min", flush=True)
            return
        self.failed.append(run)
        lines = (run.folder / "sweep.log").read_text(errors="replace").splitlines()
        show(f"{count} failed after {minutes:.1f} min:")
        typer.secho("\n".join(lines[-4:]), err=True)


def _rates(run: "PlannedRun") -> str:
    """Return the word error rates of a run's last round, for the log."""
    from server_app.run_folder import RunFolder, read_metrics

    with suppress(IndexError):
        last = read_metrics(RunFolder.at(run.folder).metrics)[-1]
        return "WER % " + " ".join(f"{100 * wer:.1f}" for wer in last["wer"])
    return "no rounds"
