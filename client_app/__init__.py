"""What runs on a device: find the capacity, load the cut model, train, reply."""

from client_app.app import app

__all__ = ["app"]
