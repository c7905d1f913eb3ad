"""A saved model that says what it is told to, and the command line in this process."""

import pytest
from typer.testing import CliRunner

from efmodel.cli import build
from tests.conftest import write_abc


@pytest.fixture(scope="session")
def abc(tmp_path_factory):
    """A model that says "a" at exit 1, "b" at exit 2 and "c" at exit 3, whatever it hears."""
    return write_abc(tmp_path_factory.mktemp("abc"), exit_thresholds={"confidence": [0.0, -1e9]})


@pytest.fixture
def ef_asr():
    def run(*arguments: object, input: bytes | None = None):
        return CliRunner().invoke(build(), list(map(str, arguments)), input=input)

    return run
