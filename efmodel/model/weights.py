"""Reading the weights of a saved model, where none may be missing, left over or misread.

transformers gives a missing tensor random numbers, leaves out one that the model does not have, and
casts any type, each time with no more than a warning.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME, cached_file, logging

from efmodel.errors import UserError

_NOTHING, _ANYTHING = r"(?!)", r""  # patterns that match no name, and every name
_DAMAGED = (SafetensorError, UnpicklingError, EOFError, RuntimeError)


class WeightsError(UserError):
    """Weights that are damaged, or not those of the model."""


def load_whole(
    kind: Any, name: str, may_lack: str = _NOTHING, must_know: str = _ANYTHING
) -> PreTrainedModel:
    """Return a model in float32 with all of its weights, as ``kind.from_pretrained`` reads them.

    Parameters
    ----------
    kind : type
        A model class of transformers, or an Auto class.
    name : str
        Local folder or Hub name.
    may_lack : str
        Pattern of the tensors that may be missing; by default none.
    must_know : str
        Pattern of the file's tensors that the model must have; by default all.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected, or of another shape or type, or the file is damaged.
    OSError
        If there is no file of weights.
    """
    try:
        with _without_warnings():
            model, report = kind.from_pretrained(
                name, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
        types = {key: tensor.dtype for key, tensor in stored_tensors(name).items()}
    except _DAMAGED as error:
        raise WeightsError(
            f"model: found damaged weights in {name} ({error}), wanted a whole file: copy it again"
        ) from error
    prefix, names = f"{model.base_model_prefix}.", set(model.state_dict())
    names |= {key.removeprefix(prefix) for key in names}
    faults = {
        "missing": [key for key in report["missing_keys"] if not re.search(may_lack, key)],
        "unexpected": [key for key in report["unexpected_keys"] if re.search(must_know, key)],
        "of another shape": [
            f"{key} {list(found)} in place of {list(wanted)}"
            for key, found, wanted in report["mismatched_keys"]
        ],
        "of another type": [
            f"{key} {str(dtype).removeprefix('torch.')} in place of float32"
            for key, dtype in types.items()
            if not dtype.is_floating_point and key.removeprefix(prefix) in names
        ],
    }
    if found := ", ".join(f"{fault} ({_first(keys)})" for fault, keys in faults.items() if keys):
        raise WeightsError(
            f"model: found tensors {found} in {name}, wanted exactly those of its config.json"
        )
    loaded: PreTrainedModel = model
    return loaded


def stored_tensors(name: str, device: str = "meta") -> dict[str, Tensor]:
    """Return a checkpoint's tensors, on the device "meta" without their values.

    The dictionary is empty if they are spread over several files.
    """
    for file in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME):
        try:
            path = cached_file(name, file)
        except OSError:
            continue
        tensors: dict[str, Tensor] = load_state_dict(path, map_location=device)
        return tensors
    return {}


def _first(keys: list[str]) -> str:
    first, *more = sorted(keys)
    return f"{first} and {len(more)} more" if more else first


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep transformers' report of faults off the screen: here they become an error."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
