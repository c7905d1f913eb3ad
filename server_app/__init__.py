"""What runs on the server: strategies, rounds, central evaluation, the run folder, results."""

from typing import TYPE_CHECKING

from efmodel.lazy_app import make_lazy

if TYPE_CHECKING:
    from flwr.serverapp import ServerApp

    app: ServerApp

__all__ = ["app"]

make_lazy(__name__)
