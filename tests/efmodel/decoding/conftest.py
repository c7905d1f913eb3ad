"""A saved model that says what it is told to, and the command line in this process."""

import pytest
import torch
from typer.testing import CliRunner

from efmodel import EarlyExitForCTC
from efmodel.cli import build
from efmodel.speech import vocabulary
from tests.conftest import small_config


@pytest.fixture(scope="session")
def abc(tmp_path_factory):
    """A model that says "a" at exit 1, "b" at exit 2 and "c" at exit 3, whatever it hears."""
    model = EarlyExitForCTC(small_config())
    for exit, letter in enumerate("abc", start=1):
        bias = torch.full((len(vocabulary.CHARACTERS),), -100.0)
        bias[vocabulary.CHARACTERS[letter]] = 100.0
        model.exits[str(exit)].projection.bias.data = bias
    model.config.exit_thresholds = {"confidence": [0.0, -1e9]}
    path = tmp_path_factory.mktemp("abc")
    model.save_pretrained(path)
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(path)
    return path


@pytest.fixture
def ef_asr():
    def run(*arguments: object, input: bytes | None = None):
        return CliRunner().invoke(build(), list(map(str, arguments)), input=input)

    return run
