"""The fixture that tests of containers start from."""

import pytest

from tests.docker.images import build_all, build_listener


@pytest.fixture
def images():
    """Build the images, or skip."""
    build_all()


@pytest.fixture
def listener():
    """Build the image that needs no torch, or skip."""
    build_listener()
