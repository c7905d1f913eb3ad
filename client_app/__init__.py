"""The client: answers the server's query, trains the cut model it is sent, and replies."""

from typing import TYPE_CHECKING

from efmodel.lazy_app import make_lazy

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

    app: ClientApp

__all__ = ["app"]

make_lazy(__name__)
