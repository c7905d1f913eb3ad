"""The early-exit speech recogniser, and everything that server and clients share.

The model classes are imported on first use: the command line and a device that answers a query
need no torch, which takes seconds to import. A program that has imported transformers gets them at
once, so that its Auto classes know the model.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efmodel.config import EarlyExitConfig as EarlyExitConfig
    from efmodel.decoding.recogniser import Recogniser as Recogniser
    from efmodel.model.early_exit import EarlyExitForCTC as EarlyExitForCTC

__all__ = ["EarlyExitConfig", "EarlyExitForCTC", "Recogniser"]

_MODEL = "efmodel.model.early_exit"  # importing it registers the model with the Auto classes


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "efmodel.decoding.recogniser" if name == "Recogniser" else _MODEL
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'efmodel' has no attribute {name!r}")


if "transformers" in sys.modules:
    importlib.import_module(_MODEL)
