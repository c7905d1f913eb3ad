"""The ServerApp: how a run starts and ends."""

import time
from logging import ERROR, INFO

from flwr.app import Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import InMemoryGrid

from efmodel.light_imports import skip_compiler_and_sharding
from server_app.actors import restart_dead_actors
from server_app.run_folder import FAILED, FINISHED

RAY_SECONDS = 30  # to wait for Ray; a simulation that has none by then fails by itself

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation, and log how it ended."""
    if isinstance(grid, InMemoryGrid):
        restart_dead_actors()
        wait_for_ray()
    skip_compiler_and_sharding()
    try:
        from server_app.federation import federate  # seconds of imports

        folder = federate(grid, context)
    except Exception as error:
        log(ERROR, FAILED + "%s", error)
        raise
    log(INFO, FINISHED + "%s", folder.path)


def wait_for_ray() -> None:
    """Wait until the Ray of this simulation has started, in another thread of this process.

    Its actors import as much as the server app does. If the server app's imports came first, they
    would keep Python's lock from the thread that starts Ray, and the two would follow each other.
    """
    import ray

    deadline = time.monotonic() + RAY_SECONDS
    while not ray.is_initialized() and time.monotonic() < deadline:
        time.sleep(0.05)
