"""``ef-asr simulate``: a whole federation on this machine, with Ray, through ``flwr run``."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from efmodel.settings import Settings
    from simulation.superlink import LocalSuperLink

COMPLETED, INTERRUPTED = "finished:completed", "interrupted"
GRACE = 30  # seconds from the server app's end to the simulation's

Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A run config key, see README; repeatable."),
]


def simulate(
    nodes: Annotated[
        int | None, typer.Option(help="Simulated clients; one per training speaker by default.")
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
    """Train across many simulated clients. The last line is the run folder."""
    from efmodel.settings import Settings, SettingsError
    from efmodel.speech import corpus, recordings
    from server_app.run_folder import RunFolder
    from simulation import methods
    from simulation.run_config import run_config

    try:
        method = methods.load(preset) if preset else methods.Method("", {})
        if len(method.parts) > 1:
            raise SettingsError(f"preset: {preset} is {len(method.parts)} runs, wanted in a sweep")
        config = run_config(overrides or [], method.config)
        config |= {"rounds": rounds} if rounds is not None else {}
        if data is not None:
            config["data"], config["data-path"] = corpus.named(data, config["data-path"])
        if config["data-path"]:  # absolute: the run's processes work in a folder of their own
            config["data-path"] = str(Path(config["data-path"]).expanduser().resolve())
        settings = Settings.from_run_config(config)
        limits = recordings.Limits.of(settings)
        speech = corpus.load(settings.data, settings.data_path, limits).train
        nodes = _nodes(nodes, method.nodes, settings, speech["speaker"][:])
        named = str(output or settings.output)
        named = named or str(Path("runs") / time.strftime("%Y%m%d-%H%M%S"))
        resume = settings.resume
        folder = RunFolder.open(resume) if resume else RunFolder.create(named)
    except (SettingsError, recordings.DataError, FileExistsError, FileNotFoundError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    config["output"] = str(folder.path)
    folder.add_command(shlex.join(["ef-asr", *sys.argv[1:]]), preset, nodes)
    print(f"run folder: {folder.path}", flush=True)
    raise typer.Exit(_run(config, folder, federation(nodes, client_gpus)))


def _nodes(asked: int | None, preset: int, settings: "Settings", speakers: list[str]) -> int:
    """Return the number of clients: as asked, as the preset says, or one per training speaker.

    A run that is resumed keeps its own: another number would deal out the speech anew.

    Parameters
    ----------
    asked : int or None
        What the command line says.
    preset : int
        What the preset says; 0 for nothing.
    settings : Settings
        The run config.
    speakers : list of str
        Each training utterance's speaker.

    Raises
    ------
    SettingsError
        If the run had another number, or the speech cannot be dealt out over so many.
    """
    from efmodel.partition import utterances_of
    from efmodel.settings import SettingsError
    from server_app.run_folder import RunFolder

    own = preset or len(set(speakers))
    try:
        about = RunFolder.open(settings.resume).about() if settings.resume else {}
        before = about.get("nodes")
        if before is not None:  # none is known of what `flwr run` started
            own = before or len(set(speakers))  # 0: a sweep's way to say one per speaker
            if asked not in (None, own):
                raise SettingsError(f"nodes: found {asked}, wanted {own}, as in {settings.resume}")
        nodes = own if asked is None else asked
        if nodes < 1:
            raise SettingsError(f"nodes: found {nodes}, wanted a number from 1")
        utterances_of(settings.partition, speakers, 0, nodes, settings.seed)
    except ValueError as error:  # which calls nodes as `flwr run` does
        raise SettingsError(str(error).replace("num-supernodes", "nodes")) from None
    return nodes


def federation(nodes: int, client_gpus: float) -> str:
    """Return Flower's federation config: how many clients, and what Ray gives each of them."""
    # One core for each simulated client: Ray then gives torch one thread, and none waits.
    config = f"num-supernodes={nodes} client-resources-num-cpus=1"
    config += f" client-resources-num-gpus={client_gpus}"
    if not os.environ.get("RAY_ADDRESS"):  # a cluster that is there has cores of its own
        config += f" init-args-num-cpus={len(os.sched_getaffinity(0))}"
    return config


def _run(config: dict[str, Any], folder: Any, federation: str) -> int:
    """Run the app and return the exit code."""
    from simulation.superlink import LocalSuperLink, SimulationError

    log = folder.path / "simulate.log"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # kill, like Ctrl-C, stops it all
    try:
        with LocalSuperLink() as superlink:
            status = _status(config, folder, federation, superlink, log)
    except KeyboardInterrupt:  # while the SuperLink started, or was asked
        status = INTERRUPTED
    except SimulationError as error:
        typer.secho(str(error), fg="red", err=True)
        return 2
    return _report(status, log, folder)


def _status(
    config: dict[str, Any], folder: Any, federation: str, superlink: "LocalSuperLink", log: Path
) -> str:
    """Run the app on a SuperLink, its output into the ``log``, and return how it ended."""
    from simulation.superlink import app_folder, run_id_in

    overrides = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
    with log.open("ab") as output:
        said_before = output.tell()  # by the run that is resumed
        command = superlink.flwr("run", str(app_folder(superlink.home)), "--stream")
        command += ["--run-config", overrides, "--federation-config", federation]
        run = subprocess.Popen(
            command,
            env=superlink.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we stop the run properly
        )

    def said() -> str:
        return log.read_bytes()[said_before:].decode(errors="replace")

    status = _watch(run, folder, config["rounds"], said)
    run_id = run_id_in(said())
    if status == INTERRUPTED and run_id:
        superlink.cancel(run_id)
    return status or (superlink.status(run_id) if run_id else "not started")


def _watch(run: subprocess.Popen[bytes], folder: Any, rounds: int, said: Callable[[], str]) -> str:
    """Show the rounds until the run ends; return its status where Flower will not know it.

    Flower ends a simulation only when the last client has: one that hangs would keep it for ever.
    """
    from server_app.run_folder import FAILED, FINISHED, read_metrics
    from simulation.progress import LiveView

    ended = 0.0
    with LiveView(rounds, read_metrics(folder.metrics)) as view:
        try:
            while run.poll() is None:
                view.show(read_metrics(folder.metrics))
                time.sleep(0.3)
                if not ended and (FINISHED in said() or FAILED in said()):
                    ended = time.monotonic()
                if ended and time.monotonic() - ended > GRACE:
                    run.kill()
                    typer.secho("stopping clients that did not end", fg="yellow", err=True)
                    return COMPLETED if FINISHED in said() else "finished:failed"
            view.show(read_metrics(folder.metrics))
            return ""
        except KeyboardInterrupt:
            run.kill()
            run.wait()
            return INTERRUPTED


def _report(status: str, log: Path, folder: Any) -> int:
    if status == COMPLETED:
        print(f"model: {folder.model}")
        if folder.plot.exists():  # there is none without a test half
            print(f"plot: {folder.plot}")
        print(folder.path)
        return 0
    if status == INTERRUPTED:
        typer.secho("interrupted: the run was stopped", fg="yellow", err=True)
    else:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
        typer.secho("\n".join(tail), err=True)
        typer.secho(f"the run failed: {status}; its whole log: {log}", fg="red", err=True)
    print(folder.path)
    return 130 if status == INTERRUPTED else 1
