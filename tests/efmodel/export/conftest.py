"""A small model as torch has it, and as it is exported."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from efmodel import EarlyExitForCTC
from efmodel.export.onnx import export
from efmodel.speech import vocabulary
from tests.conftest import small_config


class Pair(NamedTuple):
    saved: Path
    exported: Path


def random_model(**changes) -> EarlyExitForCTC:
    torch.manual_seed(1)
    return EarlyExitForCTC(small_config(**changes)).eval()


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    """A model with three exits, whose thresholds some recordings pass and others do not."""
    folder = tmp_path_factory.mktemp("pair")
    tokenizer = vocabulary.tokenizer_from(vocabulary.CHARACTERS)
    model = random_model(exit_thresholds={"confidence": [-1e9, 0.0], "agreement": [0.0, 0.0]})
    model.save_pretrained(folder / "saved")
    tokenizer.save_pretrained(folder / "saved")
    export(model, tokenizer, folder / "exported")
    return Pair(folder / "saved", folder / "exported")
