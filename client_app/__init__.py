"""The client: answers the server's query, trains the cut model it is sent, and replies."""

from client_app.app import app

__all__ = ["app"]
