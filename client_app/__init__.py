"""What runs on a device: find the capacity, load the cut model, train, reply."""

from client_app.messages import app

__all__ = ["app"]
