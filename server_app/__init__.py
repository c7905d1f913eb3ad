"""What runs on the server: strategies, rounds, central evaluation, the run folder, results."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.serverapp import ServerApp

__all__ = ["app"]


class _Package(ModuleType):
    """The package, with Flower's entry point ``server_app:app`` as an attribute.

    Reading it imports the app: whoever wants a strategy or reads a finished run does not pay for
    Flower and torch. Importing the module ``server_app.app`` does not replace it.
    """

    @property
    def app(self) -> "ServerApp":
        from server_app.app import app

        return app

    @app.setter
    def app(self, module: ModuleType) -> None:
        """Ignore the import system, which would put the module ``server_app.app`` here."""


sys.modules[__name__].__class__ = _Package
