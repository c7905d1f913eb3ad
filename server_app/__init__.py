"""What runs on the server: strategies, rounds, central evaluation, the run folder."""

from server_app.app import app

__all__ = ["app"]
