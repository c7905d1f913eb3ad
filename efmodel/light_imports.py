"""A quicker import of transformers' models, for processes that neither compile nor shard a model.

Importing ``transformers.modeling_utils`` brings in torch's compiler (``torch._dynamo``) and its
tensors over many machines (``torch.distributed.tensor``), and both bring in sympy: more than half
of the import's time. The ``ef-asr`` commands and Flower's processes use neither. A program that
imports efmodel as a library gets both, as it does from transformers.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_MASKING = f"{_COMPILER}._trace_wrapped_higher_order_op"  # transformers.masking_utils imports it


def skip_compiler_and_sharding() -> None:
    """Make this process import transformers without torch's compiler and sharded tensors.

    Call it before transformers' models are imported; later it does nothing. ``torch.compile`` does
    not work in this process from then on.
    """
    if _COMPILER in sys.modules or "transformers.modeling_utils" in sys.modules:
        return
    import torch
    from transformers import utils
    from transformers.utils import import_utils

    compiler, masking = _NoCompiler(_COMPILER), ModuleType(_MASKING)
    masking.TransformGetItemToIndex = nullcontext  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = torch._dynamo = compiler
    sys.modules[_MASKING] = masking
    # As on a torch that was built without torch.distributed, which transformers supports.
    utils.is_torch_distributed_available = import_utils.is_torch_distributed_available = _no


def prepare_transformers() -> None:
    """Make a command import transformers quickly, and without its progress bars."""
    skip_compiler_and_sharding()
    from transformers.utils import logging

    logging.disable_progress_bar()


def bring_back_compiler() -> None:
    """Let ``torch._dynamo`` be imported again; torch and accelerate ask it questions on saving."""
    import torch

    if isinstance(sys.modules.get(_COMPILER), _NoCompiler):
        del sys.modules[_COMPILER], sys.modules[_MASKING], torch._dynamo


def _no() -> bool:
    return False


class _NoCompiler(ModuleType):
    """Takes the place of ``torch._dynamo``: nothing is compiled, decorators change nothing.

    Any of its modules is missing (``torch._dynamo.config``): importing one fails.
    """

    __path__: list[str] = []
    is_compiling = staticmethod(_no)

    def graph_break(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unchanged


def _unchanged(function: Any = None, *_: object, **__: object) -> Any:
    """Return the function as it is, as ``@disable`` and as ``@disable(recursive=False)``."""
    return function if callable(function) else _unchanged
