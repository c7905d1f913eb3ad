"""Ray's actors, in which simulated clients run: one that dies is started again.

Flower keeps an actor that was killed among those that may be given work. It fails whatever it is
given, at once, and so is free for the next message: one killed process fails most of a cohort. Ray
can start a dead actor again and send it the lost message once more, but Flower 1.41 has no setting
for that. This module is the one place that changes something in Flower.
"""

from functools import partial
from importlib.metadata import version
from logging import WARNING
from types import SimpleNamespace

from flwr.common import log

FLOWER = "1.41."  # the version in which Flower makes actors where this module looks
# A message that kills its actor twice has failed. Without a second try Ray would also fail all that
# an actor is given while it starts, which takes seconds.
RESTARTED = {"max_restarts": -1, "max_task_retries": 1}


def restart_dead_actors() -> None:
    """Let Flower make actors that Ray starts again; call it before Flower's pool is made."""
    if not version("flwr").startswith(FLOWER):
        log(WARNING, "flwr %s: simulated clients that die are not restarted", version("flwr"))
        return
    from flwr.server.superlink.fleet.vce.backend import raybackend
    from flwr.simulation.ray_transport.ray_actor import ClientAppActor

    options = ClientAppActor.options  # type: ignore[attr-defined]  # ray.remote adds it
    raybackend.ClientAppActor = SimpleNamespace(  # type: ignore
        options=partial(options, **RESTARTED)
    )
