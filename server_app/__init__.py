"""What runs on the server: strategies, rounds, central evaluation, the run folder.

The app loads on first use, so that whoever wants a strategy or reads a run pays for no more.
"""

from typing import Any

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from server_app.server import app

        return app
    raise AttributeError(f"module 'server_app' has no attribute {name!r}")
