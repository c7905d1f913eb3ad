"""``ef-asr simulate``: a whole federation on this machine, with Ray, through ``flwr run``."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efmodel.errors import show, shown_errors

if TYPE_CHECKING:
    from server_app.run_folder import RunFolder
    from simulation.superlink import LocalSuperLink

COMPLETED, RUN_FAILED, INTERRUPTED = "finished:completed", "finished:failed", "interrupted"
GRACE = 30  # seconds that a simulation may go on after its server app failed
LOG_LINES = 25  # of a failed run's log, shown
POLL_SECONDS = 0.2  # between looks at the run's output

Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a run config key; repeatable."),
]


def simulate(
    nodes: Annotated[
        int | None, typer.Option(help="Simulated clients; by default one per training speaker.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Federated rounds.")] = None,
    data: Annotated[
        str | None, typer.Option(help="A folder of recordings, or a corpus by name (sample).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder; by default a new one under ./runs.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="A method of the experiments, such as hetero or full.")
    ] = "",
    client_gpus: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a GPU for each client, such as 0.25.")
    ] = 0.0,
    overrides: Override = None,
) -> None:
    """Train across many simulated clients. The last line printed is the run folder."""
    from efmodel.settings import Settings, SettingsError
    from server_app import run_lock
    from simulation import interrupts, methods
    from simulation.run_config import run_config
    from simulation.superlink import LocalSuperLink, SimulationError

    folder, status = None, INTERRUPTED
    with shown_errors(SimulationError, FileNotFoundError):
        method = methods.load(preset) if preset else methods.Method("", {})
        if len(method.parts) > 1:
            raise SettingsError(f"preset: {preset} is {len(method.parts)} runs, wanted in a sweep")
        config = run_config(overrides or [], method.config)
        config |= {"rounds": rounds} if rounds is not None else {}
        Settings.from_run_config(config)
        _end_if_finished(config)
        interrupts.stop_on_signals()
        try:
            with LocalSuperLink(preload=not config["compile"]) as superlink:
                # It takes seconds to start, and so does importing what reads the speech.
                nodes = _clients(config, data, nodes, method.nodes)
                folder = _folder(config, output)
                with run_lock.held(folder.path):
                    _tell_changes(config, folder)
                    folder.add_command(shlex.join(["ef-asr", *sys.argv[1:]]), preset, nodes)
                    print(f"run folder: {folder.path}", flush=True)
                    status = _run(config, folder, federation(nodes, client_gpus), superlink)
        except KeyboardInterrupt:
            pass
        raise typer.Exit(_report(status, folder))


def _end_if_finished(config: dict[str, Any]) -> None:
    """End the command if the run to resume has had all its rounds."""
    from server_app.run_folder import RunFolder, read_metrics

    if not config["resume"]:
        return
    folder = RunFolder.open(config["resume"])
    if folder.is_finished(config):
        done = f"{len(read_metrics(folder.metrics))} of {config['rounds']} rounds done"
        typer.secho(f"resume: found {done}, nothing is left to do; more --rounds go on", err=True)
        print(folder.path)
        raise typer.Exit


def _clients(config: dict[str, Any], data: str | None, asked: int | None, of_preset: int) -> int:
    """Put the corpus into the run config, check both, and return the number of clients.

    Parameters
    ----------
    config : dict
        The run config; ``data`` and ``data-path`` are changed.
    data : str or None
        The corpus that the command line names; None for the run config's.
    asked, of_preset : int or None, int
        The numbers of clients of ``clients.number_of_clients``.
    """
    from efmodel.settings import Settings
    from efmodel.speech import alphabet, corpus, recordings
    from simulation import clients

    if data is not None:
        config["data"], config["data-path"] = corpus.named(data, config["data-path"])
    if config["data-path"]:  # absolute: the run's processes work in a folder of their own
        config["data-path"] = str(Path(config["data-path"]).expanduser().resolve())
    config["vocabulary"] = alphabet.source(config["vocabulary"]).absolute()
    settings = Settings.from_run_config(config)
    speech = corpus.load(settings.data, settings.data_path, recordings.Limits.of(settings)).train
    nodes = clients.number_of_clients(asked, of_preset, settings, speech["speaker"][:])
    for warning in clients.check(settings, nodes, speech):
        typer.secho(warning, fg="yellow", err=True)
    return nodes


def _folder(config: dict[str, Any], output: Path | None) -> "RunFolder":
    """Create the run folder, or open the one to resume, and put it into the run config."""
    from server_app.run_folder import RunFolder

    if config["resume"]:
        folder = RunFolder.open(config["resume"])
    else:
        folder = RunFolder.create(output or config["output"], parent="runs")
    config["output"] = str(folder.path)
    return folder


def _tell_changes(config: dict[str, Any], folder: "RunFolder") -> None:
    """Say which keys of the run config differ from those of the run that is resumed."""
    from server_app.run_folder import read_metrics

    if not config["resume"]:
        return
    after = len(read_metrics(folder.metrics))
    for key, (before, now) in (folder.changes(config) if after else {}).items():
        change = f"{before!r} to round {after}, {now!r} from now on"
        typer.secho(f"resume: {key}: {change}", fg="yellow", err=True)


def federation(nodes: int, client_gpus: float) -> str:
    """Return Flower's federation config: the number of clients, and each one's cores and GPUs."""
    # Each simulated client has one core and torch one thread, so clients do not slow each other.
    config = f"num-supernodes={nodes} client-resources-num-cpus=1"
    config += f" client-resources-num-gpus={client_gpus}"
    if not os.environ.get("RAY_ADDRESS"):  # an existing cluster knows its cores
        config += f" init-args-num-cpus={len(os.sched_getaffinity(0))}"
    return config


def _run(
    config: dict[str, Any], folder: "RunFolder", federation: str, superlink: "LocalSuperLink"
) -> str:
    """Run the app on a SuperLink, its output into simulate.log, and return the run's status."""
    from simulation.run_config import to_toml
    from simulation.superlink import app_folder, run_id_in

    values = superlink.home / "run-config.toml"
    values.write_bytes(to_toml(config))
    command = superlink.flwr("run", str(app_folder(superlink.home)), "--stream")
    command += ["--run-config", str(values), "--federation-config", federation]
    log = _log(folder)
    with log.open("ab") as output:
        start = output.tell()  # behind the output of the run that is resumed
        run = subprocess.Popen(
            command,
            env=superlink.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process, which stops the run
        )

    def printed() -> str:
        return log.read_bytes()[start:].decode(errors="replace")

    status = _watch(run, folder, config["rounds"], printed)
    if status == COMPLETED:
        # All results are written: do not wait for Flower and Ray to end in good order.
        superlink.stop(patience=0)
    run_id = run_id_in(printed())
    if status == INTERRUPTED and run_id:
        superlink.cancel(run_id)
    status = status or (superlink.status(run_id) if run_id else "not started")
    if status not in (COMPLETED, INTERRUPTED):
        shutil.copy(superlink.log, folder.path)
    return status


def _watch(
    run: "subprocess.Popen[bytes]",
    folder: "RunFolder",
    rounds: int,
    printed: Callable[[], str],
) -> str:
    """Show the rounds until the server app ends; return its status, or "" if it does not tell.

    Flower ends a simulation only when its last client has ended, and a client may hang for ever.
    """
    from server_app.run_folder import read_metrics
    from simulation.progress import LiveView

    failed_at = 0.0
    with LiveView(rounds, read_metrics(folder.metrics)) as view:
        try:
            while run.poll() is None:
                view.show(read_metrics(folder.metrics))
                time.sleep(POLL_SECONDS)
                status = _status_in(printed())
                if status == RUN_FAILED and not failed_at:  # its traceback is still to come
                    failed_at = time.monotonic()
                if failed_at and time.monotonic() - failed_at > GRACE:
                    typer.secho("stopping clients that did not end", fg="yellow", err=True)
                    run.kill()
                if status == COMPLETED:
                    run.kill()
                    break
            run.wait()
            view.show(read_metrics(folder.metrics))
            return _status_in(printed())
        except KeyboardInterrupt:
            run.kill()
            run.wait()
            view.show(read_metrics(folder.metrics))  # a round that ended since the last look
            return INTERRUPTED


def _status_in(printed: str) -> str:
    """Return how the server app ended by what it logged last, or "" if it has not ended."""
    from server_app.run_folder import FAILED, FINISHED

    return COMPLETED if FINISHED in printed else RUN_FAILED if FAILED in printed else ""


def _log(folder: "RunFolder") -> Path:
    return folder.path / "simulate.log"


def _report(status: str, folder: "RunFolder | None") -> int:
    """Print how the run ended and where its results are; return the exit code."""
    from simulation.failure import cause, lost_rounds

    if status == INTERRUPTED:
        typer.secho("interrupted: the run was stopped", fg="yellow", err=True)
    if folder is None:  # interrupted before there was one
        return 130
    if status == COMPLETED:
        if lost := lost_rounds(folder):
            typer.secho(lost, fg="yellow", err=True)
        print(f"model: {folder.model}")
        if folder.plot.exists():  # there is none without a test half
            print(f"plot: {folder.plot}")
    elif status != INTERRUPTED:
        log = _log(folder)
        printed = log.read_text(encoding="utf-8", errors="replace")
        show(f"the run failed: {cause(printed) or status}")
        tail = printed.splitlines()[-LOG_LINES:]
        typer.secho("\n".join([f"the end of its log, {log}:", *tail]), err=True)
    print(folder.path)
    return {COMPLETED: 0, INTERRUPTED: 130}.get(status, 1)
